"""The table of states: every state leads back to normal, every failure has a way back."""

import pytest

from notfallserver.server.cycle.state import TABLE, Event, State, next_state
from notfallserver.wire.errors import NotfallError


def reachable(start: State) -> set[State]:
    seen, waiting = {start}, [start]
    while waiting:
        for after in TABLE[waiting.pop()].values():
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return seen


@pytest.mark.parametrize("state", State)
def test_every_state_leads_back_to_normal(state: State) -> None:
    assert State.NORMAL in reachable(state)


def test_every_state_is_reached_and_every_event_leads_somewhere() -> None:
    assert reachable(State.NEW) == set(State)
    assert {event for ways in TABLE.values() for event in ways} == set(Event)


@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (State.ACTIVATING, Event.ACTIVATION_FAILED, State.OUTAGE),
        (State.RECOVERING, Event.RECOVERY_FAILED, State.EMERGENCY),
        (State.SWITCHING_BACK, Event.SWITCH_BACK_FAILED, State.EMERGENCY),
        (State.HANDING_OVER, Event.HANDOVER_FAILED, State.NORMAL),
    ],
)
def test_a_failure_leads_to_where_the_work_still_runs(
    state: State, event: Event, after: State
) -> None:
    assert next_state(state, event) == after


def test_the_stand_in_is_never_forgotten_while_it_may_run() -> None:
    """Only an explicit event leads from a state with a stand-in to one without."""
    working = {State.ACTIVATING, State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK}
    leaving = {
        event for state in working for event, after in TABLE[state].items() if after not in working
    }
    assert leaving == {Event.ACTIVATION_FAILED, Event.STANDIN_DROPPED, Event.RECOVERED}


def test_an_impossible_event_is_refused_with_what_is_possible() -> None:
    with pytest.raises(NotfallError) as refused:
        next_state(State.NORMAL, Event.SWITCH_BACK)
    assert refused.value.code == "not-in-this-state"
    assert "'activate'" in refused.value.remedy
