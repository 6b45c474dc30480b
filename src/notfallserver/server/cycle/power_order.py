"""What a person may order of a stand-in's machine, in one word (pure): also the command line's."""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    SHUT_DOWN = "shut-down"
    RESTART = "restart"
    SWITCH_OFF = "switch-off"
    START = "start"
