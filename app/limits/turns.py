"""The images of a batch wait for their turn: a place in the queue, and memory to receive the next one in."""

import time
from collections.abc import Callable

from app.limits.budget import Budget
from app.limits.stalled_uploads import Arrivals

COPIES = 2  # of an upload while it comes: its pieces, and the file joined of them


class Turns:
    """Batches have at most half of the places and of the memory: the rest is there for lone images, which nobody
    makes wait. What comes free goes to the batch that has waited longest, before any image that comes later.

    Who waits here holds only images that are complete and end by themselves, so that nobody waits for ever.
    """

    def __init__(self, room: Budget, arrivals: Arrivals) -> None:
        """`room`: places and bytes of batches and lone images together."""
        self.room = room
        self.share = Budget(max(1, room.total[0] // 2), room.total[1] // 2)
        self.arrivals = arrivals

    def first(self, size: int, give_up: Callable[[], None]) -> "Turn | None":
        """A turn for an upload of at most `size` bytes, or None where others wait or there is no room.

        `give_up` ends its request, should it stand still while others want a turn.
        """
        reserved = self._reserved(size)
        if not self.share.try_take(1, reserved):
            return None
        if not self.room.try_take(1, reserved):
            self.share.give(1, reserved)
            return None
        return Turn(self, reserved, give_up)

    def full(self, size: int) -> bool:
        """Whether it is batches that leave no turn for an upload of `size` bytes: no lone image could give it one."""
        return self.share.waiting or not self.share.fits(1, self._reserved(size))

    async def next(self, size: int, give_up: Callable[[], None]) -> "Turn":
        """A turn as soon as there is room."""
        reserved = self._reserved(size)
        await self.share.take(1, reserved)
        try:
            await self.room.take(1, reserved)
        except BaseException:
            self.share.give(1, reserved)
            raise
        return Turn(self, reserved, give_up)

    def _reserved(self, size: int) -> int:
        # never more than there could be: a small container answers one large upload at a time
        return min(size * COPIES, self.share.total[1])


class Turn:
    """One image's place and memory, from before its upload is read until it is answered; then to be closed.

    `since`: when it was complete, or began.
    """

    def __init__(self, turns: Turns, held: int, give_up: Callable[[], None]) -> None:
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
        self.since = time.perf_counter()
        spare, self._held = self._held - size, size
        self._give(0, spare)

    def close(self) -> None:
        """Give everything back; once is enough."""
        if not self._closed:
            self._closed = True
            self._turns.arrivals.end(self)
            self._give(1, self._held)

    def _give(self, places: int, size: int) -> None:
        self._turns.room.give(places, size)
        self._turns.share.give(places, size)
