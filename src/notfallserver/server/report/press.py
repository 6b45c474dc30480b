"""The program that makes signed PDFs of pages, in a process of its own.

Laying out text takes a processor for seconds and memory that Python does not give back; none of it
shall hold up agents. It takes a JSON object on standard input (see :class:`Order`) and answers with
the PDFs in Base64, a line each, on standard output: it writes no file, so one that outlives a
killed server spoils nothing. The page can load nothing but the pictures that were named: no file,
no address.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import notfallserver
from notfallserver.server.host.run import run
from notfallserver.server.report.sign import Signer, sign_pdf

PROGRAM = "notfallserver.server.report.press"
TIMEOUT_S = 900.0
SCHEME = "picture:"
"""How a page names a picture: by this and its SHA-256."""


@dataclass(frozen=True)
class Order:
    """``pages`` are HTML, and why each is signed; ``pictures`` by SHA-256; all paths are absolute.
    ``name`` and the reason stand in the signature."""

    pages: Sequence[tuple[str, str]]
    pictures: Mapping[str, str]
    name: str
    key: str
    certificate: str
    ca: str


def print_pages(order: Order) -> list[bytes]:
    """Have it done; the signed PDFs."""
    done = run(
        [sys.executable, "-W", "ignore", "-m", PROGRAM],
        text_in=json.dumps(asdict(order)),
        timeout=TIMEOUT_S,
        environment={"PYTHONPATH": str(Path(notfallserver.__file__).parents[1])},
    )
    return [base64.b64decode(one) for one in done.out.split()]


def main() -> None:
    os.nice(10)
    order = Order(**json.load(sys.stdin))
    signer = Signer(Path(order.key), Path(order.certificate), Path(order.ca))
    pictures = {key: Path(one) for key, one in order.pictures.items()}
    for html, reason in order.pages:
        signed = sign_pdf(lay_out(html, pictures), signer, order.name, reason)
        print(base64.b64encode(signed).decode("ascii"))


def lay_out(html: str, pictures: Mapping[str, Path]) -> bytes:
    """The page as a tagged PDF (PDF/UA-1), which a screen reader can read aloud."""
    from weasyprint import HTML
    from weasyprint.urls import URLFetcherResponse

    def fetch(url: str, *_: object, **__: object) -> URLFetcherResponse:
        path = pictures.get(url.removeprefix(SCHEME)) if url.startswith(SCHEME) else None
        if path is None:
            raise ValueError(f"not allowed: {url[:80]}")
        return URLFetcherResponse(url, path.read_bytes(), {"Content-Type": "image/png"})

    page = HTML(string=html, url_fetcher=fetch)
    return bytes(page.write_pdf(pdf_variant="pdf/ua-1", pdf_version="1.7", optimize_images=True))


if __name__ == "__main__":
    main()
