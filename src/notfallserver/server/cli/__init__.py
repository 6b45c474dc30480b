"""``notfall``: the command line. It talks to the running server; only ``server`` works without."""

from notfallserver.server.cli.main import main

__all__ = ["main"]
