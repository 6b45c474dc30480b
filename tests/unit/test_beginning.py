"""How far a new server is on its way to being protected: pure."""

from __future__ import annotations

from typing import Any

import pytest
from test_situation import NOW, primary

from notfallserver.server.web.answers import JobAnswer
from notfallserver.server.web.words.beginning import Place, Stage, stages


def job(kind: str) -> JobAnswer:
    return JobAnswer.model_construct(kind=kind)


@pytest.mark.parametrize(
    ("given", "prepared", "now"),
    [
        ({"state": "new", "newest_version": "", "last_seen": None}, False, Stage.APPEAR),
        ({"state": "new", "newest_version": ""}, False, Stage.COPY),
        ({"last_seen": None}, False, Stage.PREPARE),  # its first copy came by disk
        ({}, False, Stage.PREPARE),
        ({}, True, Stage.PROTECTED),
    ],
)
def test_one_stage_after_the_other(given: dict[str, Any], prepared: bool, now: Stage) -> None:
    marks = stages(primary(**given), prepared, None)
    order = list(Stage)
    assert [one.stage for one in marks] == order
    at = order.index(now)
    if now is Stage.PROTECTED:
        assert {one.place for one in marks} == {Place.DONE}
    else:
        places = [Place.DONE] * at + [Place.NOW] + [Place.LATER] * (len(order) - at - 1)
        assert [one.place for one in marks] == places


def test_what_runs_and_what_failed_is_told_where_it_belongs() -> None:
    copying = primary(state="new", newest_version="", jobs=[job("scrub"), job("replicate")])
    marks = stages(copying, False, job("replicate"))
    assert [one.job.kind for one in marks if one.job] == ["replicate"]
    assert [one.stage for one in marks if one.failed] == [Stage.COPY]
    # Neither the failure of another stage nor the schedule's next copy is this stage's.
    marks = stages(primary(last_seen=NOW, jobs=[job("replicate")]), False, job("replicate"))
    assert not any(one.job or one.failed for one in marks)
