"""The form of a device that switches an original off from afar, and what the API takes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Form

from notfallserver.server.fence.device import MASK
from notfallserver.server.web.api.fencing import FenceAnswer, FenceRequest
from notfallserver.wire.errors import NotfallError

DEVICES = (
    ("ipmilan", "Management board with IPMI (iDRAC, iLO, IMM, BMC)"),
    ("redfish", "Management board with Redfish (newer ones)"),
)
TEXTS = tuple(text for _, text in DEVICES)
_USUAL: Mapping[str, Mapping[str, str]] = {
    "ipmilan": {"lanplus": "1"},
    # Hardly any management board has a certificate that somebody vouches for.
    "redfish": {"ssl_insecure": "1"},
}
"""What nearly every device of a kind needs beside its address."""
_FIELDS = ("ip", "username", "password")
Short = Annotated[str, Form(max_length=255)]


@dataclass(frozen=True)
class TypedDevice:
    """As it stands in the form; ``kept``: there is a password, which is not shown."""

    agent: str = "ipmilan"
    ip: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    more: str = ""
    kept: bool = False

    @classmethod
    def of(cls, device: FenceAnswer | None) -> TypedDevice:
        if device is None:
            return cls()
        usual = _USUAL.get(device.agent, {})
        more = {
            key: told
            for key, told in device.options.items()
            if key not in _FIELDS and usual.get(key) != told
        }
        return cls(
            device.agent,
            device.options.get("ip", ""),
            device.options.get("username", ""),
            more="\n".join(f"{key}={told}" for key, told in more.items()),
            kept="password" in device.options,
        )

    def request(self) -> FenceRequest:
        """A password that is left empty stays as it is."""
        options = dict(_USUAL.get(self.agent, {}))
        options |= {"ip": self.ip, "username": self.username, "password": self.password or MASK}
        for line in self.more.splitlines():
            key, equals, value = line.partition("=")
            if not line.strip():
                continue
            if not equals:
                raise NotfallError(
                    "bad-fence-device", f"'{line[:80]}' is not NAME=VALUE.", status=422
                )
            options[key.strip()] = value.strip()
        return FenceRequest(agent=self.agent, options=options)


def read_form(
    agent: Annotated[str, Form(max_length=80)] = "ipmilan",
    ip: Short = "",
    username: Short = "",
    password: Short = "",
    more: Annotated[str, Form(max_length=2000)] = "",
) -> TypedDevice:
    return TypedDevice(agent, ip, username, password, more)
