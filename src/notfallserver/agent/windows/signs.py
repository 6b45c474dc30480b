"""What somebody reads in Windows' event log whose machine keeps off the network, in two languages
because nobody has chosen one."""

from __future__ import annotations

from typing import Sequence

_OFF = """THIS SERVER KEEPS OFF THE NETWORK. Its stand-in works, as the emergency server says. Two
servers with the same address would damage data. Leave it so, or switch it off.
To work with it again: "Bring the server back" on the emergency server's page, or end the stand-in
there; then restart this server.
Switched off: {cards}. {asks}
The network in spite of it, as administrator: notfall-agent.exe unfence

DIESER SERVER BLEIBT VOM NETZ. Sein Ersatzsystem arbeitet, sagt der Notfallserver. Zwei Server mit
derselben Adresse zerstören Daten. Lassen Sie ihn so, oder schalten Sie ihn aus.
Um wieder mit ihm zu arbeiten: „Server zurückbringen“ auf der Seite des Notfallservers, oder dort
das Ersatzsystem beenden; dann diesen Server neu starten.
Ausgeschaltet: {cards}. {fragt}
Das Netz trotzdem, als Administrator: notfall-agent.exe unfence"""
_ASKS = (
    "It asks the emergency server by one of them, and comes back when the stand-in has ended.",
    "Er fragt den Notfallserver über eine davon und kommt zurück, wenn das Ersatzsystem beendet "
    "ist.",
)
_DEAF = (
    "It can't ask the emergency server meanwhile ({why}): it comes back by a restart.",
    "Er kann den Notfallserver solange nicht fragen: Er kommt mit einem Neustart zurück.",
)

STAYS = """This server's stand-in works, and not all network cards here can be switched off:
{cards}. SWITCH THIS SERVER OFF, or pull its network cables. / Das Ersatzsystem dieses Servers
arbeitet, und nicht alle Netzwerkkarten lassen sich ausschalten. SCHALTEN SIE DIESEN SERVER AUS,
oder ziehen Sie seine Netzwerkkabel."""

OVER = """The emergency server has no stand-in of this server any more: the network comes back.
/ Der Notfallserver hat kein Ersatzsystem dieses Servers mehr: Das Netz kommt zurück."""

ALONE = """This server was kept off the network, and was restarted; the emergency server can't be
asked from here: the network comes back. If the stand-in works, this server goes off again as soon
as the emergency server says so. / Dieser Server blieb vom Netz und wurde neu gestartet; der
Notfallserver ist von hier aus nicht zu fragen: Das Netz kommt zurück. Arbeitet das Ersatzsystem, so
geht er wieder vom Netz, sobald der Notfallserver es sagt."""

BY_HAND = """Switch on by hand what is still off in Network Connections (ncpa.cpl): {cards}.
/ Schalten Sie von Hand ein, was in den Netzwerkverbindungen (ncpa.cpl) noch aus ist: {cards}."""


def off(cards: Sequence[str], refused: str) -> str:
    names = ", ".join(cards) or "-"
    asks, fragt = _DEAF if refused else _ASKS
    return _OFF.format(cards=names, asks=asks.format(why=refused), fragt=fragt)
