"""What somebody reads who stands before a machine that keeps off the network."""

from __future__ import annotations

import os
from pathlib import Path

from notfallserver.agent.fence.apart import LEFT, ORDER, STAND_IN, TAKEN, Apart

ISSUE = Path("/run/issue.d/90-notfall-agent.issue")
"""Shown above the login of consoles (agetty)."""
_CONSOLES = ("/dev/console", "/dev/tty1")

_ENGLISH = {
    STAND_IN: "Its stand-in answers at {who}.",
    ORDER: "The emergency server says that its stand-in works.",
    TAKEN: "Other machines have taken all its addresses: {who}.",
    LEFT: "It handed its work over to its stand-in and can't switch itself off: switch it off.",
}
_GERMAN = {
    STAND_IN: "Sein Ersatzsystem antwortet unter {who}.",
    ORDER: "Laut Notfallserver arbeitet sein Ersatzsystem.",
    TAKEN: "Andere Maschinen haben alle seine Adressen: {who}.",
    LEFT: "Er hat an sein Ersatzsystem uebergeben und geht nicht von selbst aus: ausschalten.",
}
_TEXT = """
*** Notfallserver: THIS SERVER KEEPS OFF THE NETWORK ***
*** Notfallserver: DIESER SERVER BLEIBT VOM NETZ ***
{english}
Two servers with the same address would damage data. Leave it so.
To work with it again: "Bring the server back" on the emergency server's page,
or end the stand-in there; then restart this server.
{german}
Zwei Server mit derselben Adresse zerstoeren Daten. Lassen Sie ihn so.
Um wieder mit ihm zu arbeiten: "Server zurueckbringen" auf der Seite des
Notfallservers, oder dort das Ersatzsystem beenden; dann diesen neu starten.
(agent.pyz unfence: the network in spite of it / Netz trotzdem)

"""


def text_of(apart: Apart) -> str:
    """In two languages, because nobody has chosen one; letters that every console has."""
    who = ", ".join(f"{address} ({mac})" for address, mac in apart.answers[:1]) or "?"
    kind = apart.because if apart.because in _ENGLISH else ORDER
    return _TEXT.format(
        english=_ENGLISH[kind].format(who=who), german=_GERMAN[kind].format(who=who)
    )


def show(apart: Apart, loud: bool = True) -> None:
    """``loud``: also on the consoles now, not only above the next login."""
    text = text_of(apart)
    try:
        ISSUE.parent.mkdir(mode=0o755, exist_ok=True)
        ISSUE.write_text(text.replace("\\", "\\\\"))
    except OSError:
        pass  # the consoles are what counts
    for console in _CONSOLES if loud else ():
        try:
            handle = os.open(console, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.write(handle, text.replace("\n", "\r\n").encode())
        except OSError:
            pass
        finally:
            os.close(handle)


def take_away() -> None:
    try:
        ISSUE.unlink()
    except OSError:
        pass
