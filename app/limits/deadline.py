"""How long a request is worth working for."""

import asyncio
import re

from app.errors import CLOSE, Problem

_NUMBER = re.compile("[0-9]{1,15}")
_AT_ONCE = {"Retry-After": "1", **CLOSE}


class Deadline:
    """Cancels the task in which it begins when the time is over or the client has left; `end` says what that means."""

    def __init__(self, client_ms: str | None, deadline_ms: int) -> None:
        """`client_ms`: how long the client says that it waits, if that is less. Raises Problem."""
        if client_ms is not None:
            if not _NUMBER.fullmatch(client_ms) or not int(client_ms):
                raise Problem("bad_parameter", f"X-Request-Timeout-Ms: {client_ms[:20]}: whole milliseconds, from 1.")
            deadline_ms = min(deadline_ms, int(client_ms))
        self._deadline_ms = deadline_ms
        self._over = ""
        self._received = self._ended = False
        self._closed: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """The time runs, for the current task."""
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled = task, task.cancelling()
        late = self._deadline_ms / 1000
        self._timer = task.get_loop().call_later(late, self._give_up, "deadline_exceeded")

    def watch(self, closed: asyncio.Future[None] | None, received: bool = True) -> None:
        """End when the client leaves, too. `received`: whether the whole body has been."""
        self._received, self._closed = received, closed
        if closed is not None:
            closed.add_done_callback(self._left)

    def end_for_others(self) -> None:
        """End because the upload stands still, and others need what it holds."""
        self._give_up("queue_full")

    def end(self, error: BaseException | None) -> Problem | None:
        """Nothing is cancelled any more. What `error` stands for, if it is the cancellation: deadline_exceeded,
        disconnected or queue_full."""
        self._ended = True
        self._timer.cancel()
        if self._closed is not None:
            self._closed.remove_done_callback(self._left)
        if not self._over or self._task.uncancel() > self._cancelled or not isinstance(error, asyncio.CancelledError):
            return None
        if self._over == "disconnected":
            return Problem("disconnected", "The client closed the connection before its answer.")
        if self._over == "queue_full":
            return Problem("queue_full", "The upload stood still while others waited; try again.", _AT_ONCE)
        headers = {} if self._received else CLOSE
        return Problem("deadline_exceeded", f"No answer within {self._deadline_ms} ms.", headers)

    def _left(self, _closed: asyncio.Future[None]) -> None:
        self._give_up("disconnected")

    def _give_up(self, why: str) -> None:
        if not self._over and not self._ended:  # a future's callback may already be on its way
            self._over = why
            self._task.cancel()
