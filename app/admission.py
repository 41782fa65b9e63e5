"""Who is let in: places in the queue and memory for uploads are bounded, and who is refused is told when to return."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import CLOSE, Problem
from app.turns import COPIES, Turn, Turns

_RECENT = 100  # answers: what the service rate is the mean of, with the latest weighing most


class Admission:
    """Places for pictures from before their upload until their answer. `admitted`: how many are taken."""

    def __init__(self, max_queue: int, upload_bytes: int) -> None:
        """`max_queue` images may be admitted and unanswered at once, and their uploads take `upload_bytes` in all."""
        self.admitted = 0
        self.max_queue = max_queue
        self.turns = Turns(self._has_room, self._take, max_queue, upload_bytes)
        self._most_bytes = upload_bytes
        self._held_bytes = 0
        self._long = 0
        self._answers = 0
        self._answered_at = self._seconds_each = 0.0

    @property
    def most_of_a_request(self) -> int:
        """How many images one request may have: half of the places, so that it finds them free now and then."""
        return max(1, self.max_queue // 2)

    @contextmanager
    def admit(self, images: int = 1) -> Iterator[Callable[[int], None]]:
        """A place for each image; for the first before the upload is read. Raises Problem when too few are left.

        What it yields is to be told the size of each piece of the upload as it comes; it raises Problem when the pieces
        of all uploads no longer fit into memory.
        """
        if self.admitted + images > self.max_queue:
            raise Problem("queue_full", f"{self.admitted} pictures are waiting; try again.", self._later())
        held, since = 0, time.perf_counter()

        def hold(size: int) -> None:
            nonlocal held
            owed = 0 if held else self.turns.owed  # what has begun may take it; who comes later may not
            others = self._held_bytes - held
            held += size * COPIES
            self._held_bytes += size * COPIES
            # an upload that is alone is let in whatever its size, or a small container would never answer it
            if others and self._held_bytes + owed > self._most_bytes:
                refused = "The uploads of others fill the memory; try again."
                raise Problem("queue_full", refused, {**self._later(), **CLOSE})

        self.admitted += images
        try:
            yield hold
            for _ in range(images):
                self.observe_rate(since)
        finally:
            self.admitted -= images
            self._held_bytes -= held
            self.turns.call()

    @contextmanager
    def admit_long(self) -> Iterator[Callable[[int], None]]:
        """`admit` for what takes longer than a prediction: at most a quarter of the places, so that the others turn."""
        if self._long >= max(1, self.max_queue // 4):
            raise Problem("queue_full", f"{self._long} explanations are in progress; try again.", self._later())
        self._long += 1
        try:
            with self.admit() as hold:
                yield hold
        finally:
            self._long -= 1

    def first_turn(self, size: int) -> Turn:
        """As `admit`, for a batch whose first picture has at most `size` bytes; it waits for the rest of its turns."""
        if turn := self.turns.first(size):
            return turn
        raise Problem("queue_full", "As many pictures are waiting as batches may add to; try again.", self._later())

    def _has_room(self, size: int) -> bool:
        return self.admitted < self.max_queue and self._held_bytes + size <= self._most_bytes

    def _take(self, places: int, size: int) -> None:
        self.admitted += places
        self._held_bytes += size

    def observe_rate(self, since: float) -> None:
        """One more answer, to what was admitted at `since`: the mean time between answers, without the idle times."""
        now = time.perf_counter()
        self._answers = min(self._answers + 1, _RECENT)
        self._seconds_each += (now - max(since, self._answered_at) - self._seconds_each) / self._answers
        self._answered_at = now

    def _later(self) -> dict[str, str]:
        """When what waits now will have been answered, in whole seconds."""
        return {"Retry-After": str(max(1, math.ceil(self.admitted * self._seconds_each)))}
