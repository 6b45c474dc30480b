"""The package and the program must mean the same service, registry key and event source."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from notfallserver.agent.windows.enrol import KEY

ROOT = Path(__file__).parents[2]
WINDOWS = ROOT / "src" / "notfallserver" / "agent" / "windows"
SPACE = "{http://schemas.microsoft.com/wix/2006/wi}"


def constant(module: str, name: str) -> str:
    """Of a module that can be imported on Windows only."""
    found = re.search(rf'^{name} = "(.*)"$', (WINDOWS / module).read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_package_and_program_agree() -> None:
    tree = ElementTree.parse(ROOT / "packaging" / "windows" / "agent.wxs")  # noqa: S314  (our own)
    service = tree.find(f".//{SPACE}ServiceInstall")
    control = tree.find(f".//{SPACE}ServiceControl")
    assert service is not None
    assert control is not None
    name = constant("manager.py", "NAME")
    assert service.get("Name") == control.get("Name") == name
    commands = (WINDOWS / "main.py").read_text()
    action = tree.find(f".//{SPACE}CustomAction")
    assert action is not None
    for command in (service.get("Arguments"), action.get("ExeCommand")):
        assert f'add_parser("{command}"' in commands
    values = {(one.get("Key"), one.get("Name")) for one in tree.iter(f"{SPACE}RegistryValue")}
    source = (
        rf"SYSTEM\CurrentControlSet\Services\EventLog\Application\{constant('events.py', 'SOURCE')}"
    )
    assert values == {
        (KEY, "Server"),
        (KEY, "Token"),
        (source, "EventMessageFile"),
        (source, "TypesSupported"),
    }
    identities = [one.get("Guid") for one in tree.iter(f"{SPACE}Component")]
    assert len(set(identities)) == len(identities) == 3
