"""The other side of notifications: a mail server and a web address, really listening."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from server_process import free_port

USER, PASSWORD = "anna@example.com", "ge#heim/&1?%40"


@dataclass
class Mailbox:
    """Takes mail for those who log in rightly; ``mails`` are subject and text, ``papers`` what
    came along in the same order."""

    port: int
    mails: list[tuple[str, str]] = field(default_factory=list)
    papers: list[dict[str, bytes]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if not session.authenticated:
            return "530 Log in first"
        mail = message_from_bytes(envelope.content, policy=default)
        body = mail.get_body(("plain",))
        papers = {one.get_filename(""): one.get_content() for one in mail.iter_attachments()}
        alone = "multipart/mixed" if papers else "text/plain"
        assert body is not None and mail.get_content_type() == alone
        self.papers.append(papers)
        self.mails.append((str(mail["subject"]), body.get_content()))
        return "250 OK"

    def log_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (
            USER.encode(),
            PASSWORD.encode(),
        )
        return AuthResult(success=right, handled=False)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox(free_port())
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        server_hostname="localhost",  # else it looks its own name up for every connection
        authenticator=box.log_in,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@dataclass
class Hook:
    """A web address that takes JSON; ``status`` is what it answers."""

    port: int
    status: int = 200
    told: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def hook(port: int = 0) -> Iterator[Hook]:
    taken = Hook(port or free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if taken.status == 200:
                taken.told.append(json.loads(content))
                taken.paths.append(self.path)
            self.send_response(taken.status)
            self.end_headers()
            self.wfile.write(b"closed for today")

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", taken.port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
