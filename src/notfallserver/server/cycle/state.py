"""The life cycle of a primary as a table: in which state which event leads where.

Pure. The conductor alone applies it; every transition is journalled. A state that can fail has an
event that leads back to where the work still runs or can be started anew.
"""

from __future__ import annotations

from enum import StrEnum

from notfallserver.wire.errors import NotfallError


class State(StrEnum):
    NEW = "new"  # enrolled, no version yet
    NORMAL = "normal"
    OUTAGE = "outage"
    ACTIVATING = "activating"
    EMERGENCY = "emergency"
    RECOVERING = "recovering"
    SWITCHING_BACK = "switching_back"
    REHEARSING = "rehearsing"
    HANDING_OVER = "handing_over"  # the original still works, or is just being shut down


WITH_STANDIN = frozenset(
    {State.ACTIVATING, State.EMERGENCY, State.RECOVERING, State.SWITCHING_BACK}
)
"""States in which a stand-in exists: the original must not replicate, nobody may be removed."""


class Event(StrEnum):
    FIRST_VERSION = "first_version"
    OUTAGE_SEEN = "outage_seen"
    PRIMARY_BACK = "primary_back"
    ACTIVATE = "activate"
    STANDIN_UP = "standin_up"
    ACTIVATION_FAILED = "activation_failed"
    STANDIN_DROPPED = "standin_dropped"
    RECOVER = "recover"
    RECOVERY_FAILED = "recovery_failed"
    SWITCH_BACK = "switch_back"
    SWITCH_BACK_FAILED = "switch_back_failed"
    RECOVERED = "recovered"
    REHEARSE = "rehearse"
    REHEARSAL_ENDED = "rehearsal_ended"
    HAND_OVER = "hand_over"
    HANDOVER_FAILED = "handover_failed"


TABLE: dict[State, dict[Event, State]] = {
    State.NEW: {
        Event.FIRST_VERSION: State.NORMAL,
    },
    State.NORMAL: {
        Event.OUTAGE_SEEN: State.OUTAGE,
        Event.ACTIVATE: State.ACTIVATING,
        Event.REHEARSE: State.REHEARSING,
        Event.HAND_OVER: State.HANDING_OVER,
    },
    State.REHEARSING: {
        Event.REHEARSAL_ENDED: State.NORMAL,
        Event.OUTAGE_SEEN: State.OUTAGE,
        Event.ACTIVATE: State.ACTIVATING,
    },
    State.HANDING_OVER: {
        Event.HANDOVER_FAILED: State.NORMAL,
        Event.OUTAGE_SEEN: State.OUTAGE,
        Event.ACTIVATE: State.ACTIVATING,
    },
    State.OUTAGE: {
        Event.PRIMARY_BACK: State.NORMAL,
        Event.ACTIVATE: State.ACTIVATING,
    },
    State.ACTIVATING: {
        Event.STANDIN_UP: State.EMERGENCY,
        Event.ACTIVATION_FAILED: State.OUTAGE,
    },
    State.EMERGENCY: {
        Event.RECOVER: State.RECOVERING,
        Event.STANDIN_DROPPED: State.OUTAGE,
    },
    State.RECOVERING: {
        Event.SWITCH_BACK: State.SWITCHING_BACK,
        Event.RECOVERY_FAILED: State.EMERGENCY,
    },
    State.SWITCHING_BACK: {
        Event.RECOVERED: State.NORMAL,
        Event.SWITCH_BACK_FAILED: State.EMERGENCY,
    },
}


def next_state(state: State, event: Event) -> State:
    """Where ``event`` leads; refused where the table has no such way."""
    ways = TABLE[state]
    if event not in ways:
        possible = ", ".join(f"'{one}'" for one in ways)
        raise NotfallError(
            "not-in-this-state",
            f"'{event}' is not possible while the primary is in state '{state}'.",
            f"Possible now: {possible}.",
            status=409,
        )
    return ways[event]
