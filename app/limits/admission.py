"""Who is let in: places in the queue and memory for uploads are bounded, and who is refused is told when to return."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import CLOSE, Problem
from app.limits.budget import COPIES, Turn, Turns
from app.limits.stalled_uploads import Arrivals

_RECENT = 100  # answers: what the service rate is the mean of, with the latest weighing most


class Admission:
    """Places for images from the end of their upload until their answer. `admitted`: how many are taken.

    Who holds a place before its upload is there can keep everybody out and send nothing; so an upload holds memory
    alone, as much as has come, and gives that up too when it stands still and others need it.
    """

    def __init__(self, max_queue: int, upload_bytes: int) -> None:
        """`max_queue` images may be admitted and unanswered at once, and their uploads take `upload_bytes` in all."""
        self.admitted = 0
        self.max_queue = max_queue
        self.turns = Turns(self._has_room, self._take, max_queue, upload_bytes)
        self.arrivals = Arrivals()
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
    def upload(self, give_up: Callable[[], None], long: bool = False) -> Iterator["Upload"]:
        """A lone image from before its upload is read until its answer. `give_up` ends its request.

        `long`: it takes longer than a prediction; such have at most a quarter of the places, so that the others turn.
        Raises Problem when no place is free, so that nobody uploads for nothing; what is free now may not be later.
        """
        upload = Upload(self, give_up, long)
        self.check(1, long)
        self.arrivals.moved(upload)
        try:
            yield upload
            self.observe_rate(upload.since)
        finally:
            upload.close()

    @contextmanager
    def admit(self, images: int) -> Iterator[None]:
        """Places for images that are there already. Raises Problem when too few are left."""
        self.check(images)
        since = time.perf_counter()
        self.admitted += images
        try:
            yield
            for _ in range(images):
                self.observe_rate(since)
        finally:
            self.admitted -= images
            self.turns.call()

    def check(self, images: int, long: bool = False) -> None:
        """Raises Problem when too few places are left."""
        if long and self._long >= max(1, self.max_queue // 4):
            raise Problem("queue_full", f"{self._long} explanations are in progress; try again.", self._later())
        if self.admitted + images > self.max_queue:
            raise Problem("queue_full", f"{self.admitted} images are waiting; try again.", self._later())

    def first_turn(self, size: int, give_up: Callable[[], None]) -> Turn:
        """As `upload`, for a batch whose first image has at most `size` bytes; it waits for the rest of its turns."""
        while not (turn := self.turns.first(size, give_up)):
            if not (self.turns.arrivals.give_up_stillest() or self.arrivals.give_up_stillest()):
                full = "As many images are waiting as batches may add to; try again."
                raise Problem("queue_full", full, self._later())
        return turn

    def hold(self, held: int, size: int) -> None:
        """`size` bytes more for an upload that holds `held`. Raises Problem when those of all no longer fit."""
        self._held_bytes += size
        # an upload that is alone is let in whatever its size, or a small container would never answer it
        while self._held_bytes - held - size and self._held_bytes + (0 if held else self.turns.owed) > self._most_bytes:
            # what has begun may take what is owed; who comes later may not
            if not (self.arrivals.give_up_stillest() or self.turns.arrivals.give_up_stillest()):
                self._held_bytes -= size
                refused = "The uploads of others fill the memory; try again."
                raise Problem("queue_full", refused, {**self._later(), **CLOSE})

    def enter(self, long: bool) -> None:
        """A place for an image whose upload is complete. Raises Problem when there is none."""
        self.check(1, long)
        self.admitted += 1
        self._long += long

    def leave(self, entered: bool, long: bool, held: int) -> None:
        """Give back what an upload has had."""
        self.admitted -= entered
        self._long -= entered and long
        self._held_bytes -= held
        self.turns.call()

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


class Upload:
    """One lone image's memory while it comes, and then its place. `since`: when it was complete."""

    def __init__(self, admission: Admission, give_up: Callable[[], None], long: bool) -> None:
        self.since = time.perf_counter()
        self._admission = admission
        self._end_request = give_up
        self._long = long
        self._held = 0
        self._entered = False

    def hold(self, size: int) -> None:
        """So many bytes more have come. Raises Problem when the uploads of all no longer fit into memory."""
        size *= COPIES
        if not self._entered:
            self._admission.arrivals.moved(self)
        self._admission.hold(self._held, size)
        self._held += size

    def complete(self) -> None:
        """All of it is there: take a place. Raises Problem when there is none."""
        self._admission.arrivals.end(self)
        self._admission.enter(self._long)
        self._entered, self.since = True, time.perf_counter()

    def give_up(self) -> None:
        """See Arrival."""
        self.close()
        self._end_request()

    def close(self) -> None:
        """Give everything back; once is enough."""
        self._admission.arrivals.end(self)
        entered, held, self._entered, self._held = self._entered, self._held, False, 0
        self._admission.leave(entered, self._long, held)
