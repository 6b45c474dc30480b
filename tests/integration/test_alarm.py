"""Ransomware on a real filesystem is noticed with the first copy after it; ordinary work is not.

A longer series with all kinds of attacks is ``python -m bench.alarm``.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from agent_receiver import command
from alarm_scene import Company, company

from notfall_lab.ransom import (
    Week,
    by_openssl,
    every_fourth_page,
    in_place,
    make_company,
    one_large_file,
    texts,
    victims,
    write_log,
)
from notfallserver.agent.ntfs.volume import Volume
from notfallserver.agent.ntfs.watched import look_at_files
from notfallserver.wire.blocks import BLOCK

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def keys(scene: Company) -> set[str]:
    alarm = scene.alarm
    return {one.key for one in alarm.reasons} if alarm else set()


def log_something(scene: Company) -> None:
    write_log(scene.place / "var" / "journal" / "app.log", random.Random(3), 1 << 20)


def write_reports(folder: Path, count: int) -> list[Path]:
    """Texts of four blocks each: what of smaller files shares blocks with others tells less."""
    made = [folder / f"report{number}.txt" for number in range(count)]
    for seed, one in enumerate(made, 100):
        one.write_bytes(b"".join(texts(seed, 4 * BLOCK))[: 4 * BLOCK])
    return made


def test_a_week_of_work_is_calm_and_an_attack_after_it_is_noticed_at_once(tmp_path: Path) -> None:
    with company(tmp_path) as scene:
        make_company(scene.place, 40)
        assert scene.day().used == 0  # nothing to compare with
        for name, work in Week(scene.place).days:
            work()
            shown = scene.day()
            assert scene.alarm is None, name
            assert shown.changed and shown.files.compared > 50, name
        held = scene.newest
        by_openssl(victims(scene.place / "home")[::2] + victims(scene.place / "srv"))
        shown = scene.day()
        assert keys(scene) >= {"scrambled", "renamed", "strange"}
        alarm = scene.alarm
        assert alarm is not None and alarm.clean == held
        assert shown.files.extension == "locked"
        assert ".docx.locked" in alarm.reasons[0].values["examples"] or shown.files.examples
        assert set(scene.store.pins.all()) == {held}
        (raised,) = scene.catalogue.entries
        assert raised[1] == "alarm-raised" and "can't be recognised" in raised[3]


def test_blocks_alone_tell_it_where_no_file_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a stand-in, whose agent is not asked; a few each day, and only the database."""
    monkeypatch.setattr("notfallserver.agent.run.look_at_files", lambda _: [])
    with company(tmp_path, 300) as scene:
        make_company(scene.place, 40)
        reports = write_reports(scene.place / "home", 24)
        scene.day()
        log_something(scene)
        scene.day()
        held = scene.newest
        for day in range(6):
            in_place(reports[day::6])
            scene.day()
            if scene.alarm:
                break
        assert keys(scene) == {"turned"} and scene.alarm is not None
        assert scene.alarm.clean == held
    with company(tmp_path / "other", 300) as scene:
        make_company(scene.place, 40)
        scene.day()
        one_large_file(victims(scene.place))
        scene.day()
        assert keys(scene) == {"turned"}


def test_every_fourth_page_is_enough_on_xfs_too(tmp_path: Path) -> None:
    with company(tmp_path, 400, "xfs") as scene:
        make_company(scene.place, 40)
        scene.day()
        every_fourth_page(victims(scene.place))
        assert scene.day().turned > 50
        assert keys(scene) >= {"scrambled", "strange"}


def test_files_of_an_ntfs_volume_are_found_again_by_their_records(tmp_path: Path) -> None:
    image = tmp_path / "ntfs.img"
    with image.open("wb") as file:
        file.truncate(40 << 20)
    command("mkfs.ntfs", "-Q", "-F", image)

    def look() -> dict[str, dict[str, object]]:
        with image.open("rb") as file:
            volume = Volume(lambda at, length: os.pread(file.fileno(), length, at), 40 << 20)
            return {str(one["key"]): one for one in look_at_files(volume, 96, 60.0)}

    place = tmp_path / "data"
    place.mkdir()

    def mounted(work: object) -> None:
        subprocess.run(["ntfs-3g", image, place], check=True)
        try:
            work()  # type: ignore[operator]
        finally:
            command("umount", place)

    mounted(lambda: make_company(place, 12))
    before = look()
    assert len(before) > 50 and look() == before

    def attack() -> None:
        for one in victims(place):
            in_place([one])
            one.rename(one.with_name(one.name + ".locked"))

    mounted(attack)
    after = look()
    same = set(before) & set(after)
    assert len(same) > 0.9 * len(before)
    assert all(str(after[key]["path"]).endswith(".locked") for key in same)
    assert all(after[key]["kind"] == "" for key in same)
