"""The page ``/world``: what happens outside. Only in the dry run, and open to all."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from notfall_lab.dryrun.agents import RescueTarget
from notfall_lab.dryrun.world import ROOM, World
from notfallserver.wire.errors import NotfallError

SHARES = (0.4, 0.9, 0.97, 1.0)
MEMORIES = (16, 4, 2)
"""GiB that the emergency server may have."""


def world_router(
    world: World,
    boot: Callable[[str], RescueTarget],
    targets: list[RescueTarget],
    machines: list[str],
) -> APIRouter:
    """``boot`` starts a captured machine, one of ``machines``, from the rescue medium."""
    router = APIRouter(prefix="/world", include_in_schema=False)
    deeds: dict[str, Callable[[str], object]] = {
        "die": world.die,
        "come-back": world.come_back,
        "let-start": lambda uuid: world.let_start(uuid, True),
        "let-fail": lambda uuid: world.let_start(uuid, False),
        "fill": lambda share: world.fill(float(share)),
        "memory": lambda gib: world.shrink(float(gib)),
        "cut": lambda _: setattr(world, "cut_off", True),
        "join": lambda _: setattr(world, "cut_off", False),
        "boot": lambda name: targets.append(boot(name)),
        "speed": lambda speed: setattr(world, "speed", float(speed)),
    }

    @router.get("")
    def look() -> HTMLResponse:
        return HTMLResponse(_page(world, targets, machines))

    @router.post("/{deed}")
    def do(deed: str, to: Annotated[str, Form(max_length=80)] = "") -> Response:
        if deed not in deeds:
            raise NotfallError("not-found", f"Nothing in this world is called '{deed[:40]}'.")
        deeds[deed](to)
        return RedirectResponse("/world", 303)

    return router


def _page(world: World, targets: list[RescueTarget], machines: list[str]) -> str:
    servers = "".join(
        f"<tr><td><strong>{escape(one.name)}</strong></td>"
        f"<td>{'on' if one.alive else 'off'}</td><td>"
        + (
            _button("die", one.uuid, f"{one.name} dies")
            if one.alive
            else _button("come-back", one.uuid, f"{one.name}: the old machine is switched on")
        )
        + (
            _button("let-fail", one.uuid, "its stand-in will fail")
            if one.starts
            else _button("let-start", one.uuid, "its stand-in may start again")
        )
        + "</td></tr>"
        for one in world.servers
    )
    seats = "".join(
        f"<tr><td><code>{one.code}</code></td><td>{escape(one.label)}</td>"
        f"<td>{escape(one.state)}</td></tr>"
        for one in targets
    )
    boots = "".join(_button("boot", one, f"boot {one} from the medium") for one in machines)
    fills = "".join(_button("fill", str(one), f"{one:.0%} full") for one in SHARES)
    line = (
        _button("join", "", "plug the emergency server's cable in")
        if world.cut_off
        else _button("cut", "", "pull the emergency server's cable")
    )
    memories = "".join(_button("memory", str(one), f"{one} GiB of memory") for one in MEMORIES)
    speeds = "".join(_button("speed", str(one), f"{one} x") for one in (1, 5, 20))
    return f"""<!doctype html><html lang="en"><head><title>The world</title>
<meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/style.css"></head><body><main>
<h1>The world (only in the dry run)</h1><p><a href="/" target="page">The page</a></p>
<table><tbody>{servers}</tbody></table>
<h2 class="section">Machines at the rescue medium</h2>
<table><tbody>{seats}</tbody></table><div class="actions">{boots}</div>
<h2 class="section">The pool: {world.used / ROOM:.0%} of it is used</h2>
<div class="actions">{fills}</div>
<h2 class="section">The emergency server has {world.memory >> 30} GiB of memory</h2>
<div class="actions">{memories}</div>
<h2 class="section">The network</h2><div class="actions">{line}</div>
<h2 class="section">Time: {world.speed:g} x</h2><div class="actions">{speeds}</div>
</main></body></html>"""


def _button(deed: str, to: str, text: str) -> str:
    return (
        f'<form method="post" action="/world/{deed}">'
        f'<input type="hidden" name="to" value="{escape(to)}">'
        f'<button class="quiet">{escape(text)}</button></form>'
    )
