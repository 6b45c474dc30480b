"""An original is switched off from afar: by the fence agents with simulated boards, by a script."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fence_devices import PASSWORD, ipmi_board, redfish_board, write_script
from hand_agent import HandAgent
from playwright.sync_api import expect
from server_process import ServerProcess, free_port, running
from typing_guest import DISK

from notfall_lab.browser import browser
from notfall_lab.own_lab import own_lab
from notfall_lab.patience import PATIENCE_S
from notfallserver.server.fence.order import agents

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ORIGINAL = 20


def told(server: ServerProcess, *arguments: str, text: str | None = None) -> dict[str, Any]:
    """What a command answers in JSON, refused or not."""
    done = server.notfall(*arguments, "--json", text=text)
    answer: dict[str, Any] = json.loads(done.stdout if done.returncode == 0 else done.stderr)
    return answer


@pytest.mark.parametrize("kind", ["ipmilan", "redfish"])
def test_a_board_is_asked_and_obeys(tmp_path: Path, kind: str) -> None:
    port = free_port()
    board = (
        ipmi_board(tmp_path / "board", port, ["true"])
        if kind == "ipmilan"
        else redfish_board(tmp_path / "board", port)
    )
    with running(ServerProcess(tmp_path)) as server, board as options:
        server.enrol("shop")
        assert told(server, "fence", "test", "shop")["code"] == "no-fence-device"
        assert told(server, "fence", "set", "shop", kind, *options, text="wrong\n")
        refused = told(server, "fence", "test", "shop")
        assert refused["code"] == "fence-failed" and refused["remedy"]
        assert told(server, "fence", "set", "shop", kind, *options, text=f"{PASSWORD}\n")
        assert told(server, "fence", "test", "shop") == {"power": "on"}
        with server.catalogue() as catalogue:
            fencing = catalogue.primaries.find("shop").notes["fence"]
        assert fencing["options"]["password"] == PASSWORD
        shown = server.notfall("fence", "show", "shop").stdout
        assert kind in shown and PASSWORD not in shown and "***" in shown
        assert PASSWORD not in server.log() + server.notfall("journal", "--json").stdout
        assert told(server, "fence", "forget", "shop")
        assert told(server, "fence", "show", "shop")["code"] == "no-fence-device"


def test_agents_are_listed_and_what_names_programs_is_refused(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server:
        server.enrol("shop")
        assert {"ipmilan", "redfish", "apc_snmp"} <= set(agents())
        assert "ipmilan" in server.notfall("fence", "agents").stdout
        for agent, option in (
            ("ipmilan", "ipmitool_path=/tmp/x"),
            ("ipmilan", "password_script=/tmp/x"),
            ("ipmilan", "action=on"),
            ("ipmilan", "ip=198.51.100.1\naction=on"),
            ("script/../x", "ip=198.51.100.1"),
            ("/bin/sh", "ip=198.51.100.1"),
        ):
            refused = told(server, "fence", "set", "shop", agent, option, "--no-password")
            assert refused["code"] == "bad-fence-device", (agent, option)
        assert told(server, "fence", "set", "shop", "script/none", "--no-password")
        assert told(server, "fence", "test", "shop")["code"] == "no-fence-agent"


class Scene:
    """The server on a LAN, its primary with a copy that can start, the original there or not."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.lab = own_lab("fence", directory / "lab", net=206)
        settings = {"libvirt_uri": self.lab.uri, "lan_bridge": "lan0", "accelerator": "tcg"}
        made = ServerProcess(directory, settings)
        self.server = stack.enter_context(running(made))
        self.agent = HandAgent(self.server, "shop", DISK)
        stack.callback(self.agent.close)
        self.agent.machine["nics"][0]["addresses"] = [f"{self.lab.network.address(ORIGINAL)}/24"]
        self.agent.protect()
        store = self.server.pool.primary(self.agent.uuid)
        with store.preparing(store.need_newest()) as clones:
            store.seal_prepared(clones, {"changes": [], "warnings": []})
        stack.enter_context(self.lab)
        self.server.stop()
        self.server.inside = self.lab.network.inside("server")
        self.server.start()
        self.lab.network.add_host("shop", ORIGINAL)
        pull = ["ip", "-n", self.lab.network.namespace(), "link", "set", "v-shop", "down"]
        write_script(self.server.data / "fence" / "pull", pull)
        write_script(self.server.data / "fence" / "wrong", ["true"])

    def use(self, device: str) -> None:
        told(self.server, "fence", "set", "shop", f"script/{device}", text=f"{PASSWORD}\n")

    def events(self) -> list[str]:
        done = self.server.notfall("journal", "shop", "--json")
        return [str(one["event"]) for one in json.loads(done.stdout)]

    def state(self) -> str:
        return str(told(self.server, "primary", "show", "shop")["state"])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path)


def test_what_lives_is_switched_off_by_wish_only_and_then_replaced(scene: Scene) -> None:
    server = scene.server
    assert told(server, "activate", "shop", "--switch-off")["code"] == "no-fence-device"
    both = told(server, "activate", "shop", "--switch-off", "--overrule", "I pulled its plug")
    assert both["code"] == "bad-request"
    scene.use("wrong")
    assert told(server, "activate", "shop")["code"] == "guard-alive"  # a device alone does nothing
    assert "fenced" not in scene.events()
    # Another machine goes off: the original still answers, and no second one starts.
    assert told(server, "activate", "shop", "--switch-off")["code"] == "guard-wrong-device"
    assert scene.events()[:2] == ["activation_failed", "fenced"]
    assert scene.state() == "outage"
    scene.use("pull")
    with browser(server.url, "de", inside=server.inside) as seen:
        seen.log_in(server.password)
        seen.page.goto(seen.url + "/p/shop/emergency")
        expect(seen.page.locator(".card.bad")).to_be_visible()
        seen.page.click("#from-afar summary")
        seen.keep("fence-offered")
        seen.check()
        seen.page.click("#from-afar button")
        expect(seen.page.locator("img.screen")).to_be_visible(timeout=60000)
        # That a cable of the LAN went dead is told to every browser on it.
        assert [one for one in seen.problems if "NETWORK_CHANGED" not in one] == []
    assert "fenced" in scene.events()
    assert scene.state() == "activating"
    assert server.notfall("undo", "shop").returncode == 0


def test_a_silent_device_holds_up_nothing_that_may_start(scene: Scene) -> None:
    """In a power cut the board is as dead as its server."""
    scene.lab.network.drop_host("shop")
    told(scene.server, "fence", "set", "shop", "script/pull", text="wrong\n")
    assert told(scene.server, "activate", "shop", "--switch-off")["code"] == "fence-failed"
    scene.server.notfall("activate", "shop", "--no-follow")
    until = time.monotonic() + PATIENCE_S
    while not (job := told(scene.server, "primary", "show", "shop")["jobs"]) or (
        job[0]["progress"]["phase"] != "waiting for the service"
    ):
        assert time.monotonic() < until, scene.server.log()[-3000:]
        time.sleep(0.3)
    assert "fence-failed" in scene.events()
    assert scene.server.notfall("undo", "shop").returncode == 0


def test_the_page_keeps_a_device_and_asks_it(tmp_path: Path) -> None:
    with running(ServerProcess(tmp_path)) as server, browser(server.url, "en") as seen:
        server.enrol("shop")
        write_script(server.data / "fence" / "pull", ["true"])
        seen.log_in(server.password)
        page = seen.page
        page.goto(seen.url + "/p/shop/settings")
        page.select_option("select[name=agent]", "ipmilan")
        page.fill("input[name=ip]", "198.51.100.9")
        page.fill("input[name=password]", "top secret")
        page.fill("textarea[name=more]", "cipher 3")
        page.click("#save-fence")
        expect(page.locator("#fence-device .problem")).to_contain_text("can't be used")
        page.fill("textarea[name=more]", "cipher=3")
        page.fill("input[name=password]", "top secret")
        page.click("#save-fence")
        expect(page.locator("[role=status]")).to_contain_text("Saved")
        expect(page.locator("textarea[name=more]")).to_have_value("cipher=3")
        assert "top secret" not in page.content()
        page.fill("input[name=ip]", "198.51.100.10")
        page.click("#save-fence")  # the password stays
        with server.catalogue() as catalogue:
            kept = catalogue.primaries.find("shop").notes["fence"]["options"]
        assert (kept["ip"], kept["password"], kept["lanplus"]) == (
            "198.51.100.10",
            "top secret",
            "1",
        )
        told(server, "fence", "set", "shop", "script/pull", text=f"{PASSWORD}\n")
        page.goto(seen.url + "/p/shop/settings")
        page.click("#test-fence")
        expect(page.locator("[role=status]")).to_contain_text("the server is on")
        expect(page.locator("select[name=agent]")).to_have_value("script/pull")
        seen.keep("en-fence-settings")
        seen.check()
        page.click("#forget-fence")
        expect(page.locator("#test-fence")).to_have_count(0)
