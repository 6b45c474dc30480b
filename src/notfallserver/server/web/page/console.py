"""The screen of a stand-in with keyboard and mouse, and its power buttons."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from notfallserver.server.cycle.power import AT_WORK
from notfallserver.server.cycle.power_order import Order
from notfallserver.server.cycle.state import WITH_STANDIN, State
from notfallserver.server.records.people import Role
from notfallserver.server.records.primaries import Primary
from notfallserver.server.vm.hypervisor import LIVE, MachineState
from notfallserver.server.web.api.power import PowerRequest, switch_power
from notfallserver.server.web.api.primaries import Name
from notfallserver.server.web.console import Consoles, End, carry
from notfallserver.server.web.guard import HEADERS, POLICY
from notfallserver.server.web.page.overview import overview_of
from notfallserver.server.web.page.show import by_script, go, show
from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Operator, find_person, require_role
from notfallserver.server.web.words.power import DONE
from notfallserver.wire.errors import NotfallError

router = APIRouter(prefix="/p/{name}")
SUBPROTOCOL = "binary"
_GOODBYE_S = 5.0
_PICTURES = POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Parts of the screen and the guest's mouse pointer come as pictures of VNC's protocol."""


@router.get("/console")
def console_page(request: Request, name: Name, who: Operator) -> Response:
    page = show(request, "console.html", _present(request, name))
    page.headers["Content-Security-Policy"] = _PICTURES
    return page


@router.get("/console/present")
def present(
    request: Request, name: Name, who: Operator, part: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """The power buttons; nothing where ``part``, which is shown, is the same, and the whole page
    anew where a stand-in has come or gone."""
    values = _present(request, name)
    if part and part == values["part"]:
        return Response(status_code=204)
    if part and "none" in (part, values["part"]):
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return show(request, "parts/console.html", values)


@router.post("/console/power")
def power(
    request: Request,
    name: Name,
    who: Operator,
    order: Annotated[Order, Form()],
    confirmed: Annotated[bool, Form()] = False,
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Tells in a few words what happens now; ``reason`` overrules the guard."""
    wish = PowerRequest(order=order, confirmed=confirmed, overrule_reason=reason)
    values: dict[str, object] = {
        **overview_of(request, name).values(),
        "told": DONE[order],
        "error": None,
    }
    status = 200
    try:
        switch_power(request, name, wish, who)
    except NotfallError as error:
        if not error.code.startswith("guard-") or not by_script(request):
            raise
        values["error"], status = error, error.status
    if not by_script(request):
        return go(request, f"/p/{name}/console")
    return show(request, "parts/power.html", values, status)


def _present(request: Request, name: str) -> dict[str, object]:
    shown = overview_of(request, name)
    state = State(shown.primary.state)
    part, problem = "none", None
    if state in WITH_STANDIN:
        part = "waiting"
    if state in AT_WORK:
        try:
            machine = house_of(request).conductor.machine(shown.primary.uuid)
            part = _PARTS.get(machine, "on" if machine in LIVE else "off")
        except NotfallError as error:
            part, problem = "unknown", error
    return {**shown.values(), "part": part, "error": problem}


_PARTS = {MachineState.PAUSED: "still", MachineState.ENDING: "ending"}


# -- the line to the screen ------------------------------------------------------------------------


@router.websocket("/console/stream")
async def stream(line: WebSocket, name: Name) -> None:
    """The screen as VNC's protocol, for as long as the person may and the stand-in is on."""
    try:
        who, primary = await run_in_threadpool(_admit, line, name)
    except NotfallError as error:
        await line.send_denial_response(JSONResponse(error.to_json(), error.status, HEADERS))
        return
    await line.accept(SUBPROTOCOL)
    end = await _serve(line, who, primary)
    if end is not End.GONE:
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await line.close(end)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass  # it is cut, or was just now


def _admit(line: WebSocket, name: str) -> tuple[str, Primary]:
    who = require_role(line, Role.OPERATOR)
    if SUBPROTOCOL not in line.scope["subprotocols"]:
        raise NotfallError("bad-request", f"The subprotocol is '{SUBPROTOCOL}'.")
    return who, house_of(line).catalogue.primaries.find(name)


async def _serve(line: WebSocket, who: str, primary: Primary) -> End:
    consoles: Consoles = line.app.state.consoles
    with consoles.room(primary.uuid) as free:
        if not free:
            return End.FULL
        try:
            guest = await run_in_threadpool(house_of(line).conductor.console, primary.uuid)
        except NotfallError as error:
            off = error.code in ("machine-off", "no-such-machine", "no-stand-in")
            return End.OFF if off else End.TROUBLE
        with guest:
            if consoles.visits(who, primary.uuid):
                await run_in_threadpool(
                    house_of(line).catalogue.journal.write, primary.uuid, "console-opened", who
                )
            return await carry(line, guest, lambda: run_in_threadpool(_still_may, line))


def _still_may(line: WebSocket) -> bool:
    person = find_person(line)
    return person is not None and person.operates and not person.bare
