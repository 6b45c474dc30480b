"""Puts one disk together from an off-loaded version, with nothing but Python:

python3 assemble.py FOLDER NUMBER FILE    (FOLDER: what restic restored; NUMBER of the disk, from 0)
"""

import json
import sys
from pathlib import Path


def assemble(folder: Path, disk: int, target: Path) -> None:
    told = json.loads((folder / "offload.json").read_bytes())
    block, stretch, group = told["block"], told["stretch_blocks"], told["group_stretches"]
    size = told["disks"][disk]["size"]
    with target.open("xb") as raw:
        raw.truncate(size)
        for place in sorted(folder.glob(f"disk{disk}/*/index")):
            index, first = place.read_bytes(), int(place.parent.name) * group * stretch
            for part in sorted(place.parent.glob("[0-9]*")):
                start = int(part.name) * stretch
                with part.open("rb") as content:
                    for number in range(start, min(start + stretch, len(index) // 16)):
                        if any(index[number * 16 : number * 16 + 16]):
                            at = (first + number) * block
                            raw.seek(at)
                            raw.write(content.read(min(block, size - at)))


if __name__ == "__main__":
    assemble(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
