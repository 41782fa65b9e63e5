"""How long a request is worth working for."""

import asyncio
import re
from collections.abc import Mapping
from typing import Self

from app.errors import CLOSE, Problem

_NUMBER = re.compile(rb"[0-9]{1,15}")
_HEADER = b"x-request-timeout-ms"
_AT_ONCE = {"Retry-After": "1", **CLOSE}


class Patience:
    """Gives up what happens inside when its time is over or its client has left; a handler hears of neither.

    What it interrupts ends with a Problem: deadline_exceeded, disconnected or queue_full.
    """

    def __init__(self, deadline_ms: int) -> None:
        self._deadline_ms = deadline_ms
        self._over = ""
        self._received = self._ended = False
        self._closed: asyncio.Future[None] | None = None

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], deadline_ms: int) -> Self:
        """As long as the deadline, or as the client says that it will wait if that is less. Raises Problem."""
        asked = headers.get(_HEADER)
        if asked is None:
            return cls(deadline_ms)
        if not _NUMBER.fullmatch(asked) or not (wait_ms := int(asked)):
            shown = asked[:20].decode("latin-1")
            raise Problem("bad_parameter", f"X-Request-Timeout-Ms: {shown}: whole milliseconds, from 1.")
        return cls(min(deadline_ms, wait_ms))

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled = task, task.cancelling()
        late = self._deadline_ms / 1000
        self._timer = task.get_loop().call_later(late, self._give_up, "deadline_exceeded")
        return self

    def watch(self, closed: asyncio.Future[None] | None, received: bool = True) -> None:
        """End when the client leaves, too. `received`: whether the whole body has been."""
        self._received, self._closed = received, closed
        if closed is not None:
            closed.add_done_callback(self._left)

    def end_for_others(self) -> None:
        """End because the upload stands still, and others need what it holds."""
        self._give_up("queue_full")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended = True
        self._timer.cancel()
        if self._closed is not None:
            self._closed.remove_done_callback(self._left)
        if self._over and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise self._problem() from None

    def _left(self, _closed: asyncio.Future[None]) -> None:
        self._give_up("disconnected")

    def _give_up(self, why: str) -> None:
        if not self._over and not self._ended:  # a future's callback may already be on its way
            self._over = why
            self._task.cancel()

    def _problem(self) -> Problem:
        if self._over == "disconnected":
            return Problem("disconnected", "The client closed the connection before its answer.")
        if self._over == "queue_full":
            return Problem("queue_full", "The upload stood still while others waited; try again.", _AT_ONCE)
        headers = {} if self._received else CLOSE
        return Problem("deadline_exceeded", f"No answer within {self._deadline_ms} ms.", headers)
