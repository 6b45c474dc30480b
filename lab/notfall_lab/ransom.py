"""A company's files, what encrypts them, and a week in which nothing bad happens.

For tests and measurements of the ransomware alarm. Everything really happens on a mounted
filesystem: files are written, renamed and removed by the programs that do so in life (openssl, tar,
gzip, SQLite, dpkg), or as they do it.
"""

from __future__ import annotations

import base64
import gzip
import io
import lzma
import os
import random
import shutil
import sqlite3
import subprocess
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from PIL import Image

PAGE = 4096
KEY = "correct horse battery staple"
SOURCE = sysconfig.get_path("stdlib")
"""Where texts come from: the same on every machine of one release, whatever else is installed."""
OTHERS = {"distutils", "idlelib", "lib2to3", "test", "tkinter", "turtledemo"}
"""What is there only where other packages are."""


@lru_cache
def sources() -> tuple[Path, ...]:
    """Files with real texts, in a fixed order."""
    known = sorted(Path(SOURCE).rglob("*.py"))
    return tuple(one for one in known if not OTHERS & set(one.parts))


def texts(seed: int, total: int) -> Iterator[bytes]:
    """Real texts, together about so many bytes, in a fixed order."""
    known = list(sources())
    random.Random(seed).shuffle(known)
    while total > 0:
        for one in known:
            if content := one.read_bytes():
                yield content[: 1 << 20]
                total -= len(content)
                if total <= 0:
                    return


def jpeg(dice: random.Random) -> bytes:
    """A photo as far as its bytes go: smooth areas with noise."""
    small = Image.frombytes("RGB", (40, 30), dice.randbytes(40 * 30 * 3))
    picture = small.resize((960, 720), Image.Resampling.BICUBIC)
    grain = Image.frombytes("RGB", (240, 180), dice.randbytes(240 * 180 * 3)).resize((960, 720))
    into = io.BytesIO()
    Image.blend(picture, grain, 0.15).save(into, "JPEG", quality=90)
    return into.getvalue()


def office(content: bytes) -> bytes:
    """A document of the kind that is a zip inside."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("content.xml", content)
        parts.writestr("styles.xml", content[:2000])
    return into.getvalue()


def make_company(place: Path, mib: int, seed: int = 1) -> None:
    """Users' documents, photos, mail, a database, a program: about so many MiB."""
    dice = random.Random(seed)
    share = mib << 20
    for number, content in enumerate(texts(seed, share * 35 // 100)):
        folder = place / "home" / f"user{number % 7}" / f"project{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"note{number}.txt").write_bytes(content)
    for number, content in enumerate(texts(seed + 1, share * 60 // 100)):
        if len(content) > 3000:
            folder = place / "home" / f"user{number % 7}" / "documents"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"letter{number}.docx").write_bytes(office(content))
    photos = place / "srv" / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    made = [jpeg(dice) for _ in range(6)]
    size = len(made[0])
    for number in range(share * 15 // 100 // size):
        tail = dice.randbytes(64)
        (photos / f"dsc{number:04}.jpg").write_bytes(made[number % 6] + tail)
    mail = place / "var" / "mail"
    mail.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(texts(seed + 2, share * 10 // 100)):
        with (mail / f"user{number % 5}").open("ab") as box:
            box.write(content)
    logs = place / "var" / "journal"
    logs.mkdir(parents=True, exist_ok=True)
    write_log(logs / "app.log", dice, share * 5 // 100)
    data = place / "srv" / "db"
    data.mkdir(parents=True, exist_ok=True)
    fill_database(data / "shop.db", dice, share * 10 // 100)
    os.sync()


def write_log(path: Path, dice: random.Random, size: int) -> None:
    with path.open("ab") as log:
        begin = log.tell()
        while log.tell() - begin < size:
            log.write(
                b"".join(
                    b"2026-11-%02d %02d:%02d app[%d]: request %x took %d ms\n"
                    % (
                        *(dice.randrange(1, 28) for _ in range(3)),
                        dice.randrange(9999),
                        dice.getrandbits(64),
                        dice.randrange(900),
                    )
                    for _ in range(1000)
                )
            )


def fill_database(path: Path, dice: random.Random, size: int) -> None:
    store = sqlite3.connect(path)
    try:
        store.execute(
            "create table if not exists orders (id integer primary key, who, what, price)"
        )
        rows = size // 120
        store.executemany(
            "insert into orders (who, what, price) values (?, ?, ?)",
            (
                (
                    f"customer {dice.randrange(5000)}",
                    "goods " * dice.randrange(1, 25),
                    dice.random(),
                )
                for _ in range(rows)
            ),
        )
        store.commit()
    finally:
        store.close()


# -- attacks ---------------------------------------------------------------------------------------


def victims(place: Path) -> list[Path]:
    return sorted(one for one in place.rglob("*") if one.is_file() and not one.is_symlink())


def scramble(content: bytes) -> bytes:
    """AES in counter mode under a new key, as encryptors of all kinds do it."""
    box = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()
    return box.update(content)


def _in_place(path: Path, change: Callable[[bytes], bytes]) -> None:
    with path.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(change(content))


def by_openssl(files: Sequence[Path]) -> None:
    """A new file with one more extension, and the old one is removed."""
    for one in files:
        locked = one.with_name(one.name + ".locked")
        how = ["-aes-256-ctr", "-pbkdf2", "-iter", "1", "-nosalt", "-pass", f"pass:{KEY}"]
        subprocess.run(["openssl", "enc", *how, "-in", one, "-out", locked], check=True)
        one.unlink()


def in_place(files: Sequence[Path]) -> None:
    for one in files:
        _in_place(one, scramble)


def in_place_renamed(files: Sequence[Path]) -> None:
    for one in files:
        _in_place(one, scramble)
        one.rename(one.with_name(one.name + ".crypt"))


def every_fourth_page(files: Sequence[Path]) -> None:
    """As encryptors in a hurry do."""

    def change(content: bytes) -> bytes:
        parts = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
        return b"".join(
            scramble(one) if number % 4 == 0 else one for number, one in enumerate(parts)
        )

    for one in files:
        _in_place(one, change)


def middle_only(files: Sequence[Path]) -> None:
    """Every second stretch of 16 KiB, but not the first: names and beginnings look as before."""

    def change(content: bytes) -> bytes:
        step = 4 * PAGE
        parts = [content[at : at + step] for at in range(0, len(content), step)]
        return b"".join(scramble(one) if number % 2 else one for number, one in enumerate(parts))

    for one in files:
        _in_place(one, change)


def first_page(files: Sequence[Path]) -> None:
    for one in files:
        _in_place(one, lambda content: scramble(content[:PAGE]) + content[PAGE:])


def random_names(files: Sequence[Path]) -> None:
    """A new file of any name, and the old one is removed."""
    for one in files:
        one.with_name(os.urandom(12).hex()).write_bytes(scramble(one.read_bytes()))
        one.unlink()


def as_text(files: Sequence[Path]) -> None:
    """Encrypted, but written as base64, so that nothing looks random."""
    for one in files:
        one.write_bytes(base64.b64encode(scramble(one.read_bytes())))


def names_only(files: Sequence[Path]) -> None:
    for one in files:
        one.rename(one.with_name(one.name + ".pay-us"))


def one_large_file(files: Sequence[Path]) -> None:
    """Only the database."""
    in_place([one for one in files if one.suffix == ".db"])


ATTACKS: dict[str, Callable[[Sequence[Path]], None]] = {
    "openssl, new file .locked": by_openssl,
    "in place, renamed": in_place_renamed,
    "in place, names stay": in_place,
    "every fourth page": every_fourth_page,
    "every second 16 KiB, heads stay": middle_only,
    "first 4 KiB only": first_page,
    "new file, random name": random_names,
    "written as base64": as_text,
    "renamed only": names_only,
    "the database only": one_large_file,
}


# -- a week in which nothing bad happens -----------------------------------------------------------


class Week:
    """Seven days of work in a company's files; ``packages``: Debian packages to upgrade to."""

    def __init__(self, place: Path, packages: Sequence[Path] = (), seed: int = 7) -> None:
        self._place = place
        self._packages = list(packages)
        self._dice = random.Random(seed)
        self._seed = seed

    @property
    def days(self) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("package upgrade", self.upgrade),
            ("database load and dump", self.database),
            ("log rotation, mail, photos", self.rotate),
            ("zip backup of the documents", self.backup),
            ("image of a machine, initramfs", self.images),
            ("defragmentation, caches cleaned", self.tidy),
            ("a project archived by tar.xz", self.archive),
        ]

    def upgrade(self) -> None:
        """New packages in the cache, unpacked over the old files by renaming; initramfs anew."""
        cache = self._place / "var" / "cache-apt"
        cache.mkdir(parents=True, exist_ok=True)
        root = self._place / "opt"
        root.mkdir(exist_ok=True)
        for one in self._packages:
            shutil.copy(one, cache)
            subprocess.run(["dpkg", "-x", cache / one.name, root], check=True)
        for number, content in enumerate(texts(self._seed, 8 << 20)):
            there = root / "lib" / f"module{number}.py"
            there.parent.mkdir(exist_ok=True)
            new = there.with_suffix(".dpkg-new")
            new.write_bytes(content)
            new.rename(there)
        self._initramfs()

    def _initramfs(self) -> None:
        content = b"".join(texts(self._seed + 3, 12 << 20)) + self._dice.randbytes(1000)
        new = self._place / "initrd.new"
        new.write_bytes(gzip.compress(content, 6))
        new.rename(self._place / "initrd.img")

    def database(self) -> None:
        path = self._place / "srv" / "db" / "shop.db"
        fill_database(path, self._dice, 8 << 20)
        store = sqlite3.connect(path)
        try:
            store.execute("update orders set price = price * 1.1 where id % 3 = 0")
            store.execute("delete from orders where id % 11 = 0")
            store.commit()
            with gzip.open(self._place / "srv" / "db" / "dump.sql.gz", "wb") as dump:
                for line in store.iterdump():
                    dump.write(line.encode())
            store.execute("vacuum")
        finally:
            store.close()

    def rotate(self) -> None:
        logs = self._place / "var" / "journal"
        for number in range(4):
            if (old := logs / f"app.log.{5 - number}.gz").exists():
                old.unlink()
            log = logs / "app.log"
            rotated = logs / f"app.log.{number + 1}"
            log.rename(rotated)
            (logs / f"{rotated.name}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
            rotated.unlink()
            write_log(log, self._dice, 3 << 20)
        for number, content in enumerate(texts(self._seed + 5, 4 << 20)):
            with (self._place / "var" / "mail" / f"user{number % 5}").open("ab") as box:
                box.write(content + base64.b64encode(self._dice.randbytes(30000)))
        for number in range(60):
            (self._place / "srv" / "photos" / f"new{number}.jpg").write_bytes(
                jpeg(self._dice) if number < 8 else self._photo()
            )

    def _photo(self) -> bytes:
        known = sorted((self._place / "srv" / "photos").glob("new*.jpg"))
        return known[self._dice.randrange(len(known))].read_bytes() + self._dice.randbytes(100)

    def backup(self) -> None:
        """Last week's goes before this one's is written."""
        place = self._place / "srv" / "backup.zip"
        place.unlink(missing_ok=True)
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as into:
            for one in victims(self._place / "home"):
                into.write(one, one.relative_to(self._place))
        work = sorted((self._place / "home").rglob("*.docx"))
        for one in self._dice.sample(work, len(work) // 10):  # people save what they wrote
            text = next(iter(texts(self._dice.randrange(1 << 30), 1)))
            new = one.with_suffix(".tmp")
            new.write_bytes(office(text + one.read_bytes()[:500]))
            new.rename(one)

    def images(self) -> None:
        image = self._place / "srv" / "machine.img"
        with image.open("wb") as into:
            for content in texts(self._seed + 9, 20 << 20):
                into.write(content)
            into.write(gzip.compress(b"".join(texts(self._seed + 10, 10 << 20))))
        self._initramfs()

    def tidy(self) -> None:
        defragmenter = shutil.which("e4defrag", path="/usr/sbin:/sbin")
        if defragmenter:
            subprocess.run(
                [defragmenter, self._place / "home"], stdout=subprocess.DEVNULL, check=False
            )
        for one in victims(self._place / "var" / "cache-apt"):
            one.unlink()
        for one in sorted((self._place / "home").rglob("*.txt"))[::3]:  # copied, as some do it
            new = one.with_suffix(".copy")
            shutil.copy(one, new)
            new.rename(one)

    def archive(self) -> None:
        project = self._place / "home" / "user1" / "project1"
        into = io.BytesIO()
        with tarfile.open(fileobj=into, mode="w") as tar:
            tar.add(project, project.name)
        (project.parent / "project1.tar.xz").write_bytes(lzma.compress(into.getvalue(), preset=1))
        shutil.rmtree(project)
