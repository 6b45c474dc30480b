"""Eight real machines through one start plan: in order, and a killed server goes on with it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from notfall_lab.own_lab import own_lab
from notfall_lab.patience import BOOT_S, until
from notfall_lab.small_company import FIRST_HOST, SmallCompany, small_company
from notfallserver.server.vm import MachineState

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(900),
]
"""Eight at once, emulated on two processors that others use too."""
LOOK_S = 0.5
"""Each look is a program, which takes its share of the processor from the guests."""
LATER = ("files", "mail", "print", "shop", "wiki")
EIGHT = ("dc", "sql", "erp", *LATER)
DELAY_S = 3


def stands(company: SmallCompany) -> dict[str, str]:
    run = company.ask("plan", "show")["run"]
    return {one["name"]: one["outcome"] for one in run["stands"]} if run else {}


def finished(company: SmallCompany) -> bool:
    return bool(company.ask("plan", "show")["run"]["job"]["finished_at"])


def ordered_at(company: SmallCompany, name: str) -> list[Any]:
    with company.catalogue() as catalogue:
        rows = catalogue.journal.entries(company.uuids[name])
        return [one.at for one in rows if one.event == "activate"]


def test_eight_start_in_their_order(tmp_path: Path) -> None:
    lab = own_lab("plan", tmp_path / "lab", net=204)
    with small_company(tmp_path / "server", lab) as company:
        for name in EIGHT:
            company.add(name)
        disk = tmp_path / "server" / "guests" / "dc" / "dc.raw"
        company.add("alive", disk)
        company.add("huge", disk, memory=1 << 40)
        # Somebody has switched one of the originals on again.
        lab.network.add_host("alive", FIRST_HOST + len(EIGHT))
        company.start()
        company.notfall("plan", "order", "alive", "dc", "sql+erp", "+".join(LATER), "huge")
        company.notfall("plan", "set", "dc", "--limit", "600", "--if-fails", "stop")
        company.notfall("plan", "set", "sql", "--limit", "600")
        company.notfall("plan", "set", "files", "--begins", "delay", "--delay", str(DELAY_S))
        company.notfall("plan", "set", "huge", "--begins", "delay")
        shown = company.notfall("plan", "show").stdout
        assert "9 of 10 fit together" in shown and "No room for huge" in shown

        refused = company.notfall("plan", "start", check=False)
        assert "No server is down." in refused.stdout and "not-confirmed" in refused.stderr
        began = time.monotonic()
        company.notfall("plan", "start", *EIGHT, "alive", "huge", "--yes", "--no-follow")
        until(lambda: stands(company).get("dc") == "works", BOOT_S, LOOK_S)
        assert company.page("dc") == "dc works\n"
        until(lambda: len(ordered_at(company, "erp")) == 1)
        company.kill()
        company.start()
        until(lambda: "starting" not in stands(company).values(), BOOT_S, LOOK_S)
        until(lambda: finished(company), BOOT_S, LOOK_S)
        took = time.monotonic() - began
        assert stands(company) == {
            **dict.fromkeys(EIGHT, "works"),
            "alive": "alive",
            "huge": "no-room",
        }
        assert [company.page(name) for name in EIGHT] == [f"{name} works\n" for name in EIGHT]
        hypervisor = company.hypervisor()
        for name in EIGHT:
            machine = f"standin-{company.uuids[name]}"
            assert hypervisor.state(machine) is MachineState.RUNNING
        assert hypervisor.state(f"standin-{company.uuids['alive']}") is MachineState.ABSENT
        hypervisor.close()

        (dc,), (sql,), (erp,) = (ordered_at(company, one) for one in ("dc", "sql", "erp"))
        later = [ordered_at(company, one) for one in LATER]
        assert all(len(one) == 1 for one in later)  # nothing twice, though the server was killed
        assert dc < sql and dc < erp
        assert all((at - max(sql, erp)).total_seconds() > DELAY_S - 1 for (at,) in later)
        assert ordered_at(company, "alive") == ordered_at(company, "huge") == []
        print(f"eight work after {took:.0f} s")
