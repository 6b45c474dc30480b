"""Where the partitions of a case lie. Pure; all in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from notfall_lab.matrix.case import Case

MIB = 1 << 20
MORE = 1024 * MIB
LESS = 256 * MIB
"""By so much the disks of a recovery's target are larger or smaller."""
DATA_MIB = 400
DATA_SIGNATURE = "78abcd01"
DATA_SCRIPT = f"label: dos\nlabel-id: 0x{DATA_SIGNATURE}\nstart=2048, type=83\n"
"""A disk with data: one partition that takes all of it."""
ROOT_MIB = {"ext4": 1500, "xfs": 1500, "btrfs": 1500}
_KINDS = {
    "dos": {"boot": "83", "root": "83", "lvm": "8e", "raid": "fd", "swap": "82"},
    "gpt": {
        "grub": "21686148-6449-6E6F-744E-656564454649",
        "esp": "U",
        "boot": "L",
        "root": "L",
        "lvm": "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        "raid": "R",
        "swap": "S",
    },
}


@dataclass(frozen=True)
class Part:
    number: int
    role: str  # grub, esp, boot, root, swap
    start: int
    size: int
    uuid: str  # GPT's name of the partition; on an MBR it follows from the disk's signature

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Layout:
    """The same on each disk of the case."""

    table: str
    parts: tuple[Part, ...]
    signature: str

    def part(self, role: str) -> Part:
        return next(one for one in self.parts if one.role == role)

    def has(self, role: str) -> bool:
        return any(one.role == role for one in self.parts)

    @property
    def size(self) -> int:
        return self.parts[-1].end + 2 * MIB

    def part_uuid(self, role: str) -> str:
        part = self.part(role)
        return part.uuid if self.table == "gpt" else f"{self.signature}-{part.number:02x}"

    def script(self, case: Case, second: bool = False) -> str:
        """For sfdisk; the ``second`` disk of a mirror may have no swap, which is not mirrored."""
        kinds = _KINDS[self.table]
        inner = {"lvm": "lvm", "raid": "raid"}.get(case.stack, "root")
        lines = [f"label: {self.table}"]
        if self.table == "dos":
            lines.append(f"label-id: 0x{self.signature}")
        for one in self.parts:
            if second and one.role == "swap" and "swaps" not in case.odd:
                continue
            kind = kinds[inner if one.role == "root" else one.role]
            more = f", uuid={one.uuid}" if self.table == "gpt" else ""
            more += ", bootable" if self.table == "dos" and one.number == 1 else ""
            lines.append(f"start={one.start // 512}, size={one.size // 512}, type={kind}{more}")
        return "\n".join(lines) + "\n"


def lay_out(case: Case) -> Layout:
    sizes = []
    if case.table == "gpt" and case.bios:
        sizes.append(("grub", 1))
    if case.uefi:
        sizes.append(("esp", 64))
    if case.apart:
        sizes.append(("boot", 96 if "boot-full" in case.odd else 192))
    sizes += [("root", ROOT_MIB[case.filesystem]), ("swap", 64)]
    parts = []
    start = MIB
    for number, (role, mib) in enumerate(sizes, 1):
        name = f"77000000-0000-4000-8000-0000000000{number:02x}"
        parts.append(Part(number, role, start, mib * MIB, name))
        start += mib * MIB
    return Layout(case.table, tuple(parts), "77abcd01")
