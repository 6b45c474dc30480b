"""The order of all tests: `make test` runs them on two processors, and the longest begin first."""

from __future__ import annotations

import pytest

USUAL_S = 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole cycles may take long, and say so: what is begun last must be short."""
    items.sort(key=allowed_seconds, reverse=True)


def allowed_seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else USUAL_S
