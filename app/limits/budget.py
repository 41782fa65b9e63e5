"""So much of something, and no more: taken at once or in turn, and given back."""

import asyncio
from collections import deque
from operator import add, le, sub


class Budget:
    """Amounts of one thing, or of several that are taken together; who waits is served first come, first served.

    `taken` is how much of each is; more than the total where `overdraw` has gone past it. For one event loop.
    """

    def __init__(self, *total: int) -> None:
        self.total = total
        self.taken = (0,) * len(total)
        self._line: deque[tuple[tuple[int, ...], asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether somebody waits."""
        return bool(self._line)

    def fits(self, *amounts: int) -> bool:
        """Whether so much is free, whoever waits for it."""
        return all(map(le, map(add, self.taken, amounts), self.total))

    def try_take(self, *amounts: int) -> bool:
        """Take so much; False, and nothing is taken, where it does not fit or others wait."""
        if self._line or not self.fits(*amounts):
            return False
        self.overdraw(*amounts)
        return True

    async def take(self, *amounts: int) -> None:
        """The same as soon as it fits, which must be possible. Who is cancelled has taken nothing."""
        if self.try_take(*amounts):
            return
        served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((amounts, served))
        try:
            await served
        except asyncio.CancelledError:
            # who is behind may want less; what came in the same moment goes to them
            self.give(*(amounts if not served.cancelled() else [0] * len(amounts)))
            raise

    def overdraw(self, *amounts: int) -> None:
        """Take so much without a look at what is left or who waits: for who has looked by a rule of their own."""
        self.taken = tuple(map(add, self.taken, amounts))

    def give(self, *amounts: int) -> None:
        """Give so much back; who has waited longest takes it in the same moment, if it is enough."""
        self.taken = tuple(map(sub, self.taken, amounts))
        while self._line and (self._line[0][1].cancelled() or self.fits(*self._line[0][0])):
            wanted, served = self._line.popleft()
            if not served.cancelled():
                self.overdraw(*wanted)
                served.set_result(None)
