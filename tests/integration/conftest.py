"""A server for all tests that need one as it is; those that change or kill it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_process import ServerProcess, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(ServerProcess(tmp_path_factory.mktemp("server"))) as server:
        yield server
