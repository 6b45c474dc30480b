"""What happens after an order to a stand-in's power, in plain words. Pure."""

from __future__ import annotations

from notfallserver.server.cycle.power_order import Order

DONE = {
    Order.SHUT_DOWN: "It was told to shut down. That may take a minute or two.",
    Order.RESTART: "It was told to restart. That may take a few minutes.",
    Order.SWITCH_OFF: "It was switched off.",
    Order.START: "It was switched on. Its picture comes in a moment.",
}
TEXTS = tuple(DONE.values())
