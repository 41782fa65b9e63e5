"""Uploads under way, and which of them stand still."""

import time
from typing import Protocol

_STILL_SECONDS = 0.5  # twice what a lost packet usually takes to be sent again


class Arrival(Protocol):
    """An upload that holds memory."""

    def give_up(self) -> None:
        """Give back at once what is held, and end the request."""


class Arrivals:
    """By when the last piece of each came, the longest ago first."""

    def __init__(self) -> None:
        self._moved: dict[Arrival, float] = {}

    def moved(self, arrival: Arrival) -> None:
        """It has begun, or another piece of it came."""
        self._moved.pop(arrival, None)
        self._moved[arrival] = time.monotonic()

    def end(self, arrival: Arrival) -> None:
        """It is complete, or given up; once is enough."""
        self._moved.pop(arrival, None)

    def give_up_stillest(self, kind: type[Arrival] | None = None) -> bool:
        """For others that need what it holds, and what only a `kind` may hold; False where all of them move."""
        for arrival, moved_at in self._moved.items():
            if time.monotonic() - moved_at < _STILL_SECONDS:
                return False
            if kind is None or isinstance(arrival, kind):
                del self._moved[arrival]
                arrival.give_up()
                return True
        return False
