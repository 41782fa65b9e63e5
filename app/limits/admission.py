"""Who is let in: places in the queue and memory for uploads are bounded, and who is refused is told when to return."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import CLOSE, Problem
from app.limits.budget import Budget
from app.limits.stalled_uploads import Arrivals
from app.limits.turns import COPIES, Turn, Turns

_RECENT = 100  # answers: what the service rate is the mean of, with the latest weighing most


class Admission:
    """Places for images until their answer, and memory for their uploads: one budget of both, one of batches' half.

    A lone image has a place from the end of its upload: who holds one before can keep everybody out and send nothing.
    Its upload holds memory alone, as much as has come, and gives that up too when it stands still and others need it.
    An image of a batch holds both from before its upload, see `Turns`.
    """

    def __init__(self, max_queue: int, upload_bytes: int) -> None:
        """`max_queue` images may be admitted and unanswered at once, and their uploads take `upload_bytes` in all."""
        self.max_queue = max_queue
        self.arrivals = Arrivals()
        self.room = Budget(max_queue, upload_bytes)
        self.turns = Turns(self.room, self.arrivals)
        # an explanation takes longer than a prediction: with a quarter of the places the others turn
        self._explanations = Budget(max(1, max_queue // 4))
        self._answers = 0
        self._answered_at = self._seconds_each = 0.0

    @property
    def admitted(self) -> int:
        """How many places are taken."""
        return self.room.taken[0]

    @property
    def most_of_a_request(self) -> int:
        """How many images one request may have: half of the places, so that it finds them free now and then."""
        return max(1, self.max_queue // 2)

    @contextmanager
    def upload(self, give_up: Callable[[], None], long: bool = False) -> Iterator["Upload"]:
        """A lone image from before its upload is read until its answer. `give_up` ends its request.

        `long`: an explanation. Raises Problem when no place is free, so that nobody uploads for nothing; what is free
        now may not be later.
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
        self.room.overdraw(images, 0)
        try:
            yield
            for _ in range(images):
                self.observe_rate(since)
        finally:
            self.room.give(images, 0)

    def first_turn(self, size: int, give_up: Callable[[], None]) -> Turn:
        """As `upload`, for a batch whose first image has at most `size` bytes; it waits for the rest of its turns."""
        while not (turn := self.turns.first(size, give_up)):
            if not self.arrivals.give_up_stillest(Turn if self.turns.full(size) else None):
                full = "As many images are waiting as batches may add to; try again."
                raise Problem("queue_full", full, self._later())
        return turn

    def check(self, images: int, long: bool = False) -> None:
        """Raises Problem when too few places are left."""
        if long and not self._explanations.fits(1):
            taken = self._explanations.taken[0]
            raise Problem("queue_full", f"{taken} explanations are in progress; try again.", self._later())
        if self.admitted + images > self.max_queue:
            raise Problem("queue_full", f"{self.admitted} images are waiting; try again.", self._later())

    def hold(self, held: int, size: int) -> None:
        """`size` bytes more for an upload that holds `held`. Raises Problem when those of all no longer fit."""
        while True:
            alone = self.room.taken[1] == held  # let in whatever its size, or a small container would never answer it
            begun = held > 0  # may take what a batch waits for; who comes later may not
            if alone or (self.room.fits(0, size) and (begun or not self.room.waiting)):
                break
            if not self.arrivals.give_up_stillest():
                refused = "The uploads of others fill the memory; try again."
                raise Problem("queue_full", refused, {**self._later(), **CLOSE})
        self.room.overdraw(0, size)

    def enter(self, long: bool) -> None:
        """A place for an image whose upload is complete. Raises Problem when there is none."""
        self.check(1, long)
        self.room.overdraw(1, 0)
        if long:
            self._explanations.overdraw(1)

    def leave(self, entered: bool, long: bool, held: int) -> None:
        """Give back what an upload has had."""
        self.room.give(entered, held)
        if entered and long:
            self._explanations.give(1)

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
