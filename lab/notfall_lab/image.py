"""Disk images of the lab's guests, made once and kept in the cache.

``make_image(BIOS).copy_to(directory)`` gives fresh disks of a machine that has never run. By hand:
``python -m notfall_lab.image`` builds all images and prints where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from notfall_lab.cache import FILES, cached, key_of
from notfall_lab.guest_tree import sweep
from notfall_lab.recipe_disk import make_disks
from notfall_lab.recipe_guest import BIOS, UEFI, Recipe
from notfallserver.server.host.run import run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """A guest's disks in the cache, never written to."""

    recipe: Recipe
    disks: tuple[Path, ...]

    def copy_to(self, directory: Path) -> list[Path]:
        """Disks for a machine; sparse, by reflink where the filesystem can."""
        directory.mkdir(parents=True, exist_ok=True)
        for disk in self.disks:
            run(
                ["cp", "--reflink=auto", "--sparse=always", disk, directory / disk.name],
                timeout=600,
            )
        return [directory / disk.name for disk in self.disks]


def make_image(recipe: Recipe) -> Image:
    """The image of ``recipe``, built when it is not in the cache."""
    modules = ("guest_tree", "recipe_base", "recipe_disk", "recipe_guest")
    sources = [HERE / f"{one}.py" for one in modules]
    key = key_of(repr(recipe), *sources, *sorted(FILES.iterdir()))
    kind = f"image-{recipe.name}"

    def build(directory: Path) -> None:
        make_disks(directory, recipe)

    # A killed build leaves mounts, which must be gone before its directory can be removed.
    directory = cached(kind, key, build, sweep)
    return Image(recipe, tuple(sorted(directory.glob("disk*.raw"))))


def main() -> None:
    for recipe in (BIOS, UEFI):
        for disk in make_image(recipe).disks:
            print(disk)


if __name__ == "__main__":
    main()
