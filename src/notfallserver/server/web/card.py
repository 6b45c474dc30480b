"""The emergency card: one page A4 to be hung up, for somebody who never saw the page before."""

from __future__ import annotations

from dataclasses import dataclass

from notfallserver.server.records.people import Role

TITLE = "When a server is down"
OPEN = "Open this page"
ALSO = "also:"
FROM_INSIDE = (
    "From any computer or phone in the company's network. Or point the phone's camera here."
)
STEPS = (
    (
        "Is it really the server?",
        "Look whether the server is switched on and its network cable is plugged in.",
    ),
    (
        "Open the page",
        "Type the address above exactly so, or scan the code. If the browser warns: "
        "“Advanced”, then continue to the page. The emergency server vouches for itself.",
    ),
    ("Log in", "With your own name and password. Who may is written below."),
    (
        "Start the stand-in",
        "Choose the server that is marked red and press “Start the stand-in”. The page first asks "
        "the network whether it is really off. Then all goes on within minutes.",
    ),
    (
        "Leave the broken server off",
        "Never switch it on beside its stand-in. Tell the colleagues, and call for help.",
    ),
)
WHO = "Who may"
CALL = "Whom to call"
SERVERS = "Protected servers"
NOBODY_YET = "Write it here by hand:"
NONE_YET = "none yet"
MORE = "and %(count)s more"
SHORT_FINGERPRINT = "Fingerprint: %(code)s …"
PRINTED = "Printed %(day)s. Print it anew when something here changes."
ROLES = {
    Role.ADMINISTRATOR: "may everything",
    Role.OPERATOR: "may start stand-ins",
    Role.VIEWER: "may look",
}
TEXTS = (
    *(TITLE, OPEN, ALSO, FROM_INSIDE, WHO, CALL, SERVERS, NOBODY_YET, NONE_YET, MORE),
    *(SHORT_FINGERPRINT, PRINTED, *ROLES.values(), *(text for step in STEPS for text in step)),
)


@dataclass(frozen=True)
class Card:
    """What is on it: ``urls`` best first, ``people`` with their roles, ``servers`` with their
    addresses; ``fingerprint`` in hex."""

    company: str
    contacts: tuple[str, ...]
    urls: tuple[str, ...]
    fingerprint: str
    people: tuple[tuple[str, Role], ...]
    servers: tuple[tuple[str, tuple[str, ...]], ...]
