"""What a stand-in of a Windows machine is made of."""

from __future__ import annotations

import pytest

from notfallserver.server.vm.spec import Controller, NicModel
from notfallserver.server.vm.windows import card_for, controller_for
from notfallserver.wire.facts import Machine

XP, SEVEN, EIGHT, TEN = (5, 1), (6, 1), (6, 2), (10, 0)


@pytest.mark.parametrize(
    ("driver", "version", "controller"),
    [
        ("iaStorA", TEN, Controller.SATA),
        ("storahci", EIGHT, Controller.SATA),
        ("msahci", SEVEN, Controller.SATA),
        ("atapi", XP, Controller.IDE),
        ("", TEN, Controller.SATA),
        ("LSI_SAS", TEN, Controller.SATA),
        ("viostor", TEN, Controller.VIRTIO),
        ("vioscsi", SEVEN, Controller.SCSI),
        ("stornvme", TEN, Controller.NVME),
        ("pvscsi", TEN, Controller.PVSCSI),
    ],
)
def test_controllers_that_windows_has_a_driver_for(
    driver: str, version: tuple[int, int], controller: Controller
) -> None:
    assert controller_for(driver, version) is controller


@pytest.mark.parametrize(
    ("driver", "version", "card"),
    [
        ("e1dexpress", TEN, NicModel.E1000E),
        ("b57nd60x", SEVEN, NicModel.E1000),
        ("", XP, NicModel.RTL8139),
        ("netkvm", SEVEN, NicModel.VIRTIO),
        ("vmxnet3ndis6", TEN, NicModel.VMXNET3),
    ],
)
def test_cards_that_windows_has_a_driver_for(
    driver: str, version: tuple[int, int], card: NicModel
) -> None:
    assert card_for(driver, version) is card


def test_a_machine_tells_its_windows() -> None:
    assert Machine("a", "Windows Server 2019 Standard", "10.0.17763.1").windows == (10, 0)
    assert Machine("a", "Windows 7 Professional", "6.1.7601").windows == (6, 1)
    assert Machine("a", "Windows", "").windows == (10, 0)
    assert Machine("a", "Debian GNU/Linux 12 (bookworm)", "6.1.0-50-amd64").windows == (0, 0)
