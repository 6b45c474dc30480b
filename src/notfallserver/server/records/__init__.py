"""Durable records: what the server knows beside the pool, in one SQLite file.

The catalogue may be lost without losing a version: primaries can be adopted again from the pool.
It is loaded when somebody asks for it: SQLAlchemy takes half a second, and who needs no more than
the words of a record (:mod:`.start_place`), as the command line, is not to wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notfallserver.server.records.catalogue import Catalogue, open_catalogue

__all__ = ["Catalogue", "open_catalogue"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from notfallserver.server.records import catalogue

    return getattr(catalogue, name)
