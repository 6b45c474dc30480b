"""Where this server's pool is; apart from the server, because setting it up needs nothing else."""

from __future__ import annotations

from notfallserver.server.pool.setup import PoolPlace, prepare_pool
from notfallserver.server.settings import Settings


def ready_pool(settings: Settings) -> PoolPlace:
    """The pool's directory, mounted if it is an image file."""
    return prepare_pool(
        settings.pool_path, settings.data_dir / "pool.img", settings.pool_image_gib << 30
    )
