"""The running server as the command line sees it: the API over TLS, the CA pinned, root's token."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from notfallserver.server.cli.show import chosen
from notfallserver.server.settings import Settings, load_settings
from notfallserver.wire.client import tls_context
from notfallserver.wire.errors import NotfallError

RESTART_S = 120
"""A server that restarts while a job is followed may take so long."""


class Api:
    """One session with the server on this machine."""

    def __init__(self, settings: Settings) -> None:
        host = settings.listen_host
        if host in ("::", "0.0.0.0"):  # noqa: S104
            host = "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        self._url = f"https://{shown}:{settings.listen_port}"
        try:
            ca = (settings.data_dir / "ca" / "ca.pem").read_text("ascii")
            token = (settings.data_dir / "cli-token").read_text("ascii").strip()
        except FileNotFoundError:
            raise NotfallError(
                "not-set-up", "There is no emergency server here yet.", "Run 'notfall server init'."
            ) from None
        except PermissionError:
            raise NotfallError(
                "not-root", "Only root may do this.", "Run it with sudo, or as root."
            ) from None
        self._client = httpx.Client(
            base_url=f"{self._url}/api/v1",
            verify=tls_context(ca),
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(120, connect=10),
            trust_env=False,
        )

    def get(self, path: str, **query: Any) -> Any:
        asked = {key: value for key, value in query.items() if value is not None}
        return self._call("GET", path, params=asked)

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """What is no JSON."""
        return self._request("GET", path, params=query).content

    def get_whatever(self, path: str, status: int) -> Any:
        """As :meth:`get`, where the answer with this status is one, too, and no error."""
        return self._call("GET", path, also=status)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._call("POST", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(self, method: str, path: str, also: int = 0, **given: Any) -> Any:
        answer = self._request(method, path, also, **given)
        return answer.json() if answer.content else None

    def _request(self, method: str, path: str, also: int = 0, **given: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if not answer.is_success and answer.status_code != also:
            raise _read_error(answer)
        return answer

    def follow(self, job: str) -> Iterator[dict[str, Any]]:
        """The job now and at each change until it is over; goes on after a restart."""
        give_up = time.monotonic() + RESTART_S
        while True:
            try:
                for row in self._events(f"/jobs/{job}/follow"):
                    give_up = time.monotonic() + RESTART_S
                    yield row
                    if row["finished_at"]:
                        return
            except httpx.HTTPError as error:
                if time.monotonic() > give_up:
                    raise self._unreachable(error) from None
            time.sleep(1)

    def _events(self, path: str) -> Iterator[dict[str, Any]]:
        with self._client.stream("GET", path, timeout=httpx.Timeout(60, connect=10)) as answer:
            if not answer.is_success:
                answer.read()
                raise _read_error(answer)
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def _unreachable(self, error: httpx.HTTPError) -> NotfallError:
        return NotfallError(
            "server-unreachable",
            f"The emergency server at {self._url} does not answer ({error}).",
            "Start it: systemctl start notfallserver, or 'notfall server run'.",
            retry=True,
        )


def _read_error(answer: httpx.Response) -> NotfallError:
    try:
        told = answer.json()
    except ValueError:
        told = {}
    return NotfallError.from_json(told if isinstance(told, dict) else {}, answer.status_code)


def connect() -> Api:
    """The server whose settings were named, or are at the usual place."""
    return Api(load_settings(chosen.config))
