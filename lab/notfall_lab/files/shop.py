"""The lab's service: takes numbered orders over HTTP and keeps them in PostgreSQL.

POST /orders {"client", "number", "text"}  answers {"id"} after COMMIT; the same (client, number)
                                           again gives the same id
GET  /orders?client=C&after=N              {"numbers": [...]}, ascending, at most 10,000 a call
GET  /health                               200 when the database answers
GET  /check                                {"orders", "journalled", "unjournalled": [ids]}

State lies on two disks on purpose: a line in the journal (root disk) is synced before the order is
committed (data disk). In an image where both disks are of one point in time, and after any power
cut, every order has its line.
"""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

import psycopg2  # type: ignore[import-untyped,unused-ignore]

JOURNAL = "/var/lib/shop/journal"
ADD = """INSERT INTO orders (client, number, text) VALUES (%s, %s, %s)
ON CONFLICT (client, number) DO UPDATE SET tries = orders.tries + 1 RETURNING id"""
LIST = "SELECT number FROM orders WHERE client = %s AND number > %s ORDER BY number LIMIT 10000"

local = threading.local()
journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def query(
    statement: str,
    values: Tuple[Any, ...] = (),
    before_commit: Optional[Callable[[List[Any]], None]] = None,
) -> List[Any]:
    """One transaction; a lost connection is replaced once."""
    try:
        return transact(statement, values, before_commit)
    except psycopg2.Error:
        local.connection = None
    try:
        return transact(statement, values, before_commit)
    except psycopg2.Error:
        local.connection = None
        raise


def transact(
    statement: str,
    values: Tuple[Any, ...],
    before_commit: Optional[Callable[[List[Any]], None]],
) -> List[Any]:
    if getattr(local, "connection", None) is None:
        local.connection = psycopg2.connect("dbname=shop connect_timeout=5")
    with local.connection, local.connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: List[Any] = cursor.fetchall()
        if before_commit:
            before_commit(rows)
    return rows


def write_journal(rows: List[Any]) -> None:
    os.write(journal, b"%d\n" % rows[0][0])
    os.fdatasync(journal)


def check() -> Dict[str, Any]:
    orders = {row[0] for row in query("SELECT id FROM orders")}
    with open(JOURNAL, "rb") as stream:
        lines = {int(line) for line in stream if line.endswith(b"\n") and line.strip().isdigit()}
    missing = sorted(orders - lines)
    return {"orders": len(orders), "journalled": len(lines), "unjournalled": missing[:100]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status: int, body: Dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def guarded(self, act: Callable[[], Tuple[int, Dict[str, Any]]]) -> None:
        try:
            status, body = act()
        except psycopg2.Error as error:
            status, body = 503, {"error": str(error).strip()}
        self.answer(status, body)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/health":
            self.guarded(lambda: (200, {"ok": query("SELECT 1")[0][0] == 1}))
        elif url.path == "/check":
            self.guarded(lambda: (200, check()))
        elif url.path == "/orders":
            given = parse_qs(url.query)
            values = (given["client"][0], int(given.get("after", ["0"])[0]))
            self.guarded(lambda: (200, {"numbers": [row[0] for row in query(LIST, values)]}))
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        values = (order["client"], order["number"], order.get("text", ""))
        self.guarded(lambda: (200, {"id": query(ADD, values, write_journal)[0][0]}))

    def log_message(self, format: str, *args: object) -> None:
        pass


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
