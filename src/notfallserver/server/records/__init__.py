"""Durable records: what the server knows beside the pool, in one SQLite file.

The catalogue may be lost without losing a version: primaries can be adopted again from the pool.
"""

from notfallserver.server.records.catalogue import Catalogue, open_catalogue

__all__ = ["Catalogue", "open_catalogue"]
