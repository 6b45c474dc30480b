"""Under which addresses this server is reached."""

from __future__ import annotations

import json
import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from notfallserver.server.host.run import run
from notfallserver.server.settings import Settings


def host_addresses(bridge: str) -> list[str]:
    """All addresses of this host, those on the LAN bridge first; link-local ones are left out."""
    links = json.loads(run(["ip", "-j", "address", "show"], timeout=10).out)
    found = [
        (link["ifname"] != bridge, str(one["local"]))
        for link in links
        for one in link["addr_info"]
        if one.get("scope") == "global" and "local" in one
    ]
    return [address for _, address in sorted(found, key=lambda one: one[0])]


def own_urls(settings: Settings) -> tuple[str, ...]:
    """What agents and targets use, best first: as set, or made of this host's addresses."""
    if settings.urls:
        return settings.urls
    return address_urls(settings) or (f"https://127.0.0.1:{settings.listen_port}",)


def address_urls(settings: Settings) -> tuple[str, ...]:
    """By numbers: these work when no name does."""
    addresses = host_addresses(settings.lan_bridge)
    shown = [f"[{one}]" if ":" in one else one for one in addresses]
    return tuple(f"https://{one}:{settings.listen_port}" for one in shown)


def as_url(text: str, port: int) -> str:
    """What somebody types as a server's address, as it is used: a bare host gets the rest."""
    if "://" in text:
        return text
    try:
        number = ip_address(text.strip("[]"))
    except ValueError:
        return f"https://{text}" if re.search(r":\d+$", text) else f"https://{text}:{port}"
    return f"https://[{number}]:{port}" if number.version == 6 else f"https://{number}:{port}"


def server_names(settings: Settings) -> list[str]:
    """Names and addresses for the server's certificate."""
    hosts = [urlsplit(url).hostname or "" for url in own_urls(settings)]
    wanted = [*hosts, *host_addresses(settings.lan_bridge), socket.gethostname()]
    return list(dict.fromkeys([*filter(None, wanted), "localhost", "127.0.0.1"]))
