"""Connections that owe us something - a request's head, the rest of an upload - and how long they may."""

import asyncio
import resource
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

_OTHER_FILES = 32  # descriptors that are not there yet when the first connection comes: metrics, /proc
_LEAST = 16
_MANY = 65_536
_LOOK_SECONDS = 1.0


class Waiter(Protocol):
    """A connection. `deadline`: of the loop's clock, and only while it waits."""

    deadline: float

    def expire(self) -> None:
        """Its time is over."""

    def give_way(self) -> None:
        """Another needs its descriptor."""


class Waiting:
    """Those of one process, who has begun to wait first first.

    A timer for each would cost more than a request's parsing: all are looked through once a second.
    """

    def __init__(self, head_seconds: float) -> None:
        """`head_seconds`: how long the head of a request may take, from its first byte or the connection's start."""
        self.head_seconds = head_seconds
        self._line: dict[Waiter, None] = {}
        self._looking = False
        self._most = 0

    def begin(self, waiter: Waiter, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """From now on it waits, and for so long."""
        waiter.deadline = loop.time() + seconds
        if waiter in self._line:
            del self._line[waiter]  # to the end of it
        self._line[waiter] = None
        if not self._looking:
            self._looking = True
            loop.call_later(min(_LOOK_SECONDS, self.head_seconds / 4), self._look, loop)

    def end(self, waiter: Waiter) -> None:
        """It owes nothing any more, or has left."""
        self._line.pop(waiter, None)

    def make_room(self, connections: Collection[object]) -> None:
        """Where descriptors become scarce, who has waited longest gives way: to refuse new ones would be a way to keep
        everybody out with half a header each."""
        self._most = self._most or max(_LEAST, _descriptors() - _OTHER_FILES)
        if len(connections) > self._most and self._line:
            waiter = next(iter(self._line))
            del self._line[waiter]
            waiter.give_way()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for waiter in [waiter for waiter in self._line if waiter.deadline <= now]:
            del self._line[waiter]
            waiter.expire()
        self._looking = bool(self._line)
        if self._looking:
            loop.call_later(min(_LOOK_SECONDS, self.head_seconds / 4), self._look, loop)


def _descriptors() -> int:
    """How many this process may still open."""
    try:
        taken = len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        taken = 2 * _OTHER_FILES
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MANY if most == resource.RLIM_INFINITY else most - taken
