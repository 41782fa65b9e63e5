"""The images of a batch wait for their turn: a place in the queue, and memory to receive the next one in."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from app.limits.stalled_uploads import Arrivals

COPIES = 2  # of an upload while it comes: its pieces, and the file joined of them


class Turn:
    """One image's place and memory, from before its upload is read until it is answered; then to be closed."""

    def __init__(self, turns: "Turns", held: int, give_up: Callable[[], None]) -> None:
        self.since = time.perf_counter()
        self._turns = turns
        self._held = held
        self._end_request = give_up
        self._closed = False
        turns.arrivals.moved(self)

    def moved(self) -> None:
        """Another piece of it has come."""
        if not self._closed:
            self._turns.arrivals.moved(self)

    def give_up(self) -> None:
        """See Arrival."""
        self.close()
        self._end_request()

    def keep(self, size: int) -> None:
        """The upload is complete: only its bytes are held from here on."""
        self._turns.arrivals.end(self)
        spare, self._held = self._held - size, size
        self._turns.take(0, -spare)

    def close(self) -> None:
        """Give everything back; once is enough."""
        if not self._closed:
            self._closed = True
            self._turns.arrivals.end(self)
            self._turns.take(-1, -self._held)


class Turns:
    """Batches have at most half of the places and of the memory: the rest is there for lone images, which nobody
    makes wait. What comes free goes to the batch that has waited longest, before any image that comes later.

    Who waits here holds only images that are complete and end by themselves, so that nobody waits for ever.
    """

    def __init__(
        self, fits: Callable[[int], bool], count: Callable[[int, int], None], places: int, upload_bytes: int
    ) -> None:
        """`fits`: whether the queue has a place and this much memory; `count` is told changes of both. The other two
        are what there is for batches and lone images together."""
        self._fits = fits
        self._count = count
        self._places, self._bytes = max(1, places // 2), upload_bytes // 2
        self._taken = self._taken_bytes = 0
        self._line: deque[tuple[int, Callable[[], None], asyncio.Future[Turn]]] = deque()
        self.arrivals = Arrivals()

    def first(self, size: int, give_up: Callable[[], None]) -> Turn | None:
        """A turn for an upload of at most `size` bytes, or None where others wait or there is no room.

        `give_up` ends its request, should it stand still while others want a turn.
        """
        reserved = self._reserved(size)
        return None if self._line or not self._room(reserved) else self._give(reserved, give_up)

    async def next(self, size: int, give_up: Callable[[], None]) -> Turn:
        """A turn as soon as there is room."""
        if turn := self.first(size, give_up):
            return turn
        coming: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._line.append((self._reserved(size), give_up, coming))
        try:
            return await coming
        except asyncio.CancelledError:
            if coming.cancelled():
                self.call()  # who is behind may want less
            else:
                coming.result().close()  # it came in the same moment
            raise

    @property
    def owed(self) -> int:
        """How much memory who is first in line waits for, if others than batches hold it."""
        reserved = self._line[0][0] if self._line else 0
        return reserved if self._within(reserved) else 0

    def call(self) -> None:
        """Whoever is first in line, if there is room by now; to be called when something has been given back."""
        while self._line and (self._line[0][2].cancelled() or self._room(self._line[0][0])):
            reserved, give_up, coming = self._line.popleft()
            if not coming.cancelled():
                coming.set_result(self._give(reserved, give_up))

    def take(self, places: int, size: int) -> None:
        """Count what is taken, or given back where negative."""
        self._taken += places
        self._taken_bytes += size
        self._count(places, size)
        if places < 0 or size < 0:
            self.call()

    def _reserved(self, size: int) -> int:
        # never more than there could be: a small container answers one large upload at a time
        return min(size * COPIES, self._bytes)

    def _room(self, reserved: int) -> bool:
        return self._within(reserved) and self._fits(reserved)

    def _within(self, reserved: int) -> bool:
        return self._taken < self._places and self._taken_bytes + reserved <= self._bytes

    def _give(self, reserved: int, give_up: Callable[[], None]) -> Turn:
        self.take(1, reserved)
        return Turn(self, reserved, give_up)
