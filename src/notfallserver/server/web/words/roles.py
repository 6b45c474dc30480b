"""What each role may, in plain words. Pure."""

from __future__ import annotations

from notfallserver.server.records.people import Role

TITLES = {
    Role.VIEWER: "Viewer",
    Role.OPERATOR: "Operator",
    Role.ADMINISTRATOR: "Administrator",
}
MAY = {
    Role.VIEWER: "Sees how all servers stand. Can't change anything.",
    Role.OPERATOR: "Also makes copies, starts stand-ins in an emergency, and brings servers back.",
    Role.ADMINISTRATOR: "May everything: also add and remove servers, overrule the safety check, "
    "and look after people and settings.",
}
TEXTS = (*TITLES.values(), *MAY.values())
