"""The start plan: its steps, what people change in it, and which stand-ins fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from notfallserver.server.cycle.plans.capacity import OVERHEAD, WRITES, Need, Room, fit_together
from notfallserver.server.cycle.plans.order import Wish, changed, moved, ordered, steps_of
from notfallserver.server.records import Catalogue, open_catalogue
from notfallserver.server.records.start_place import Begins, IfFails, Place
from notfallserver.server.web.start_answers import CapacityAnswer
from notfallserver.server.web.words.situation import Light
from notfallserver.server.web.words.starting import capacity_light, capacity_words
from notfallserver.wire.errors import NotfallError

GIB = 1 << 30
DC, SQL, SHOP, MAIL = (
    Place("dc"),
    Place("sql", Begins.DELAY, delay_s=30),
    Place("shop", Begins.TOGETHER),
    Place("mail", Begins.WORKS, limit_s=60),
)
PLAN = (DC, SQL, SHOP, MAIL)


def names(places: Sequence[Place]) -> str:
    return " ".join(one.primary for one in places)


def shape(wanted: set[str] | None = None) -> list[str]:
    return [names(step.places) for step in steps_of(PLAN, wanted)]


def test_those_that_start_together_are_a_step() -> None:
    assert shape() == ["dc", "sql shop", "mail"]
    assert steps_of([replace(DC, begins=Begins.TOGETHER)])[0].places[0].primary == "dc"
    assert steps_of([]) == []


def test_who_is_not_wanted_leaves_its_companions_when_they_were() -> None:
    """Else the shop would start together with the server before the database."""
    assert shape({"dc", "shop"}) == ["dc", "shop"]
    step = steps_of(PLAN, {"dc", "shop"})[1]
    assert (step.begins, step.delay_s) == (Begins.DELAY, 30)
    assert shape({"mail"}) == ["mail"]


def test_moving_ends_at_the_ends() -> None:
    assert names(moved(PLAN, "shop", -1)) == "dc shop sql mail"
    assert names(moved(PLAN, "dc", 1)) == "sql dc shop mail"
    assert names(moved(PLAN, "dc", -1)) == names(moved(PLAN, "mail", 1)) == names(PLAN)
    assert moved(PLAN, "sql", 1)[2] is SQL  # with all that was set for it


def test_an_order_names_some_and_the_others_follow() -> None:
    made = ordered(PLAN, [["mail"], ["shop", "dc"]])
    assert names(made) == "mail shop dc sql"
    assert [one.begins for one in made] == [
        Begins.WORKS,
        Begins.WORKS,  # it was together with the database, which comes later now
        Begins.TOGETHER,
        Begins.DELAY,
    ]
    assert names(ordered(PLAN, [["gone", "mail"]])) == "mail dc sql shop"  # removed just now
    with pytest.raises(NotfallError) as caught:
        ordered(PLAN, [["mail"], ["shop", "mail"]])
    assert caught.value.code == "bad-start-plan"


@pytest.mark.parametrize(
    "wish",
    [
        Wish(place=0),
        Wish(place=5),
        Wish(delay_s=-1),
        Wish(delay_s=86401),
        Wish(limit_s=9),
        Wish(memory_mib=63),
        Wish(memory_mib=(1 << 24) + 1),
    ],
)
def test_what_can_not_be_is_refused(wish: Wish) -> None:
    with pytest.raises(NotfallError) as caught:
        changed(PLAN, "sql", wish)
    assert caught.value.code == "bad-start-plan" and caught.value.remedy


def test_a_place_is_changed_and_all_else_stays() -> None:
    wish = Wish(place=1, begins=Begins.WORKS, if_fails=IfFails.STOP, memory_mib=1024)
    made = changed(PLAN, "mail", wish)
    assert names(made) == "mail dc sql shop"
    assert made[0] == replace(MAIL, if_fails=IfFails.STOP, memory_mib=1024)
    assert made[1:] == [DC, SQL, SHOP]
    assert changed(PLAN, "sql", Wish()) == list(PLAN)


# -- what fits -------------------------------------------------------------------------------------


def need(name: str, gib: int, cpus: int = 1, disk: int = 0) -> Need:
    return Need(name, name, gib * GIB, cpus, disk)


ROOM = Room(memory=20 * GIB, disk=100 * GIB, cpus=8)


def fits(needs: Sequence[Need], room: Room = ROOM) -> tuple[str, str]:
    made = fit_together(needs, room)
    return " ".join(one.name for one in made.fits), " ".join(one.name for one in made.rest)


def test_in_the_order_of_the_plan_and_a_smaller_one_still_finds_room() -> None:
    needs = [need("dc", 4), need("sql", 12), need("shop", 8), need("mail", 3)]
    assert fits(needs) == ("dc sql mail", "shop")
    assert fits(needs[::-1]) == ("mail shop dc", "sql")
    made = fit_together(needs, ROOM)
    left = 20 * GIB - 19 * GIB - 3 * OVERHEAD
    assert made.missing_memory == 8 * GIB + OVERHEAD - left
    # With just that much more all of them fit.
    more = replace(ROOM, memory=ROOM.memory + made.missing_memory)
    assert fits(needs, more) == ("dc sql shop mail", "")
    assert fits(needs, replace(more, memory=more.memory - 1))[1] == "mail"


def test_a_machine_takes_more_than_its_memory() -> None:
    assert fits([need("a", 10), need("b", 10)]) == ("a", "b")


def test_one_alone_always_fits_for_it_gets_what_there_is() -> None:
    assert fits([need("huge", 30), need("small", 1)]) == ("huge", "small")
    assert fits([need("huge", 30), need("small", 1)], replace(ROOM, standins=1)) == (
        "small",
        "huge",
    )


def test_without_shared_blocks_space_decides_as_well() -> None:
    needs = [need("a", 1, disk=80 * GIB), need("b", 1, disk=40 * GIB), need("c", 1, disk=20 * GIB)]
    assert fits(needs) == ("a c", "b")
    made = fit_together(needs, ROOM)
    assert (made.missing_memory, made.missing_disk) == (0, 40 * GIB)


def test_what_is_scarce_is_told_and_forbids_nothing() -> None:
    needs = [need("a", 1, cpus=4), need("b", 1, cpus=5)]
    made = fit_together(needs, replace(ROOM, disk=2 * WRITES))
    assert made.crowded and not made.scarce and not made.rest
    assert fit_together(needs, replace(ROOM, disk=2 * WRITES - 1)).scarce
    assert not fit_together(needs[:1], ROOM).crowded
    assert fit_together(needs[:1], replace(ROOM, cpus_taken=5)).crowded


def test_nobody_needs_nothing() -> None:
    made = fit_together([], ROOM)
    assert (made.fits, made.rest, made.missing_memory, made.scarce) == ((), (), 0, False)


def test_in_words() -> None:
    def told(needs: Sequence[Need], room: Room = ROOM) -> tuple[Light, str]:
        answer = CapacityAnswer.of(fit_together(needs, room))
        words = " ".join(one.text % one.values for one in capacity_words(answer))
        return capacity_light(answer), words

    light, words = told([need("dc", 4), need("sql", 12), need("shop", 8)])
    assert light is Light.WARN
    assert "2 of 3 fit on this emergency server together: dc, sql." in words
    assert "No room for shop: " in words and "Leave one out" in words
    light, words = told([need("dc", 4)])
    assert light is Light.GOOD and words.startswith("All of them fit")
    light, words = told([need("dc", 4)], replace(ROOM, memory=GIB, standins=1))
    assert light is Light.BAD and words.startswith("None of them")
    assert told([]) == (Light.GOOD, "")


# -- kept ------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    for name in ("beta", "alpha", "gamma"):
        opened.primaries.adopt_primary(f"u-{name}", name, None, "", "normal", 60, 15)
    yield opened
    opened.close()


def test_a_plan_exists_by_itself_and_new_ones_come_last(catalogue: Catalogue) -> None:
    plan = catalogue.start_plan
    assert names(plan.all()) == "u-alpha u-beta u-gamma"
    plan.change(lambda places: moved(places, "u-gamma", -2), "anna")
    catalogue.primaries.adopt_primary("u-aaa", "aaa", None, "", "normal", 60, 15)
    assert names(plan.all()) == "u-gamma u-alpha u-beta u-aaa"
    catalogue.primaries.remove("u-alpha", "anna")
    assert names(plan.all()) == "u-gamma u-beta u-aaa"


def test_changes_are_kept_and_journalled(catalogue: Catalogue) -> None:
    plan = catalogue.start_plan
    wish = Wish(begins=Begins.DELAY, delay_s=20, if_fails=IfFails.STOP, memory_mib=512)
    made = plan.change(lambda places: changed(places, "u-beta", wish), "anna")
    assert plan.all() == made
    assert plan.of("u-beta") == made[1] == Place("u-beta", Begins.DELAY, 20, 300, IfFails.STOP, 512)
    assert plan.of("u-alpha") == Place("u-alpha")
    plan.change(lambda places: changed(places, "u-beta", wish), "anna")  # nothing new
    (entry,) = [one for one in catalogue.journal.entries() if one.event == "start-plan-changed"]
    assert (entry.who, entry.details) == ("anna", {"order": ["alpha", "beta", "gamma"]})


def test_what_fails_in_between_changes_nothing(catalogue: Catalogue) -> None:
    before = catalogue.start_plan.all()
    with pytest.raises(NotfallError):
        catalogue.start_plan.change(lambda places: changed(places, "u-beta", Wish(place=9)), "anna")
    assert catalogue.start_plan.all() == before
