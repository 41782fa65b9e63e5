"""One request: bytes -> decoded pixels -> a place in the queue -> this picture's row -> labels with probabilities."""

import asyncio
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.artifact import header
from app.artifact.image import Claim, Decoded, decode, display
from app.batcher import Answer, Batcher
from app.engines import EngineError
from app.errors import Problem
from app.memory import Memory
from app.startup import Served

T = TypeVar("T")
_RECENT = 100  # answers: what the service rate is the mean of, with the latest weighing most
_COPIES = 2  # of an upload: its pieces as they came, and the file joined of them


# By file size and memory to decode it: what takes less than 1 ms. A thread and its quarrels over the interpreter cost
# 0.4 ms more than to decode it at once (docs/performance.md).
_SMALL_FILE_BYTES, _SMALL_BYTES = 65_536, 262_144


class _NotSmall(Exception):
    """The header announces more than is decoded at once."""


def _only_small(needed: int) -> AbstractContextManager[None]:
    if needed > _SMALL_BYTES:
        raise _NotSmall
    return nullcontext()


@dataclass(frozen=True)
class Prediction:
    """`top_k`: (label, probability) by falling probability; `decode_seconds` includes the wait for a decoder thread."""

    top_k: list[tuple[str, float]]
    decoded: Decoded
    answer: Answer
    decode_seconds: float


def rank(probabilities: NDArray[np.float32], labels: Sequence[str], top_k: int) -> list[tuple[str, float]]:
    """The top_k labels of float32[K] by falling probability; of equals the first label, as argmax says."""
    best = np.argsort(-probabilities, kind="stable")[:top_k]

    # by way of str: the shortest decimal that is this float32, half as long in JSON as its float64
    return [(labels[place], float(str(probabilities[place]))) for place in best]


class Classifier:
    """The request pipeline around one served variant."""

    def __init__(
        self, served: Served, batcher: Batcher, memory: Memory, threads: int, max_queue: int, max_pixels: int
    ) -> None:
        """`threads` decode; `max_queue` images may be admitted and unanswered at once."""
        self.served = served
        self.batcher = batcher
        self.admitted = 0
        self.max_queue = max_queue
        self._long = 0
        self._memory = memory
        self._uploads_bytes = 0
        self._answers = 0
        self._answered_at = self._seconds_each = 0.0
        self._max_pixels = max_pixels
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @contextmanager
    def admit(self) -> Iterator[Callable[[int], None]]:
        """A place for one image, taken before its upload is read. Raises Problem when all are taken.

        What it yields is to be told the size of each piece of the upload as it comes; it raises Problem when the pieces
        of all uploads no longer fit into memory.
        """
        if self.admitted >= self.max_queue:
            raise Problem("queue_full", f"{self.admitted} pictures are waiting; try again.", self._later())
        held, since = 0, time.perf_counter()

        def hold(size: int) -> None:
            nonlocal held
            others = self._uploads_bytes - held
            held += size * _COPIES
            self._uploads_bytes += size * _COPIES
            # an upload that is alone is let in whatever its size, or a small container would never answer it
            if others and self._uploads_bytes > self._memory.upload_bytes:
                close = {**self._later(), "Connection": "close"}  # the rest of it may still be on its way
                raise Problem("queue_full", "The uploads of others fill the memory; try again.", close)

        self.admitted += 1
        try:
            yield hold
            self._observe_rate(since)
        finally:
            self.admitted -= 1
            self._uploads_bytes -= held

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

    def _observe_rate(self, since: float) -> None:
        """One more answer, to what was admitted at `since`: the mean time between answers, without the idle times."""
        now = time.perf_counter()
        self._answers = min(self._answers + 1, _RECENT)
        self._seconds_each += (now - max(since, self._answered_at) - self._seconds_each) / self._answers
        self._answered_at = now

    def _later(self) -> dict[str, str]:
        """When what waits now will have been answered, in whole seconds."""
        return {"Retry-After": str(max(1, math.ceil(self.admitted * self._seconds_each)))}

    async def predict(self, data: bytes, top_k: int) -> Prediction:
        """Classify one encoded picture; 1 <= top_k <= number of labels. Raises ImageError or EngineError."""
        started = time.perf_counter()
        decoded = await self._decode(data)
        decode_seconds = time.perf_counter() - started
        answer = await self.batcher.submit(decoded.pixels)
        ranked = rank(answer.probabilities, self.served.manifest.labels, top_k)
        return Prediction(ranked, decoded, answer, decode_seconds)

    async def _decode(self, data: bytes) -> Decoded:
        """A small picture at once, any other in a decoder's thread."""
        if len(data) <= _SMALL_FILE_BYTES and header.is_quick(data):
            with suppress(_NotSmall):
                return decode(data, self.served.manifest.input, self._max_pixels, _only_small)
        return await self._in_thread(
            data, lambda own, claim: decode(own, self.served.manifest.input, self._max_pixels, claim)
        )

    async def display(self, data: bytes, longest_side: int, draw: Callable[[NDArray[np.uint8], Claim], bytes]) -> bytes:
        """What `draw` makes, in a decoder's thread, of the picture as displayed: uint8[h, w, 3]."""
        return await self._in_thread(
            data, lambda own, claim: draw(display(own, longest_side, self._max_pixels, claim), claim)
        )

    async def _in_thread(self, data: bytes, use: Callable[[bytes, Claim], T]) -> T:
        """The pool keeps cancelled work in its queue: what it keeps must not hold the upload."""
        waiting, over = [data], threading.Event()
        del data
        claim = functools.partial(self._memory.for_decoding, abandoned=over.is_set)

        def work() -> T:
            return use(waiting.pop(), claim)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, work)
        finally:
            waiting.clear()
            over.set()

    def why_not_live(self) -> str:
        """Why only a restart can help; empty while there is hope."""
        return "" if self.batcher.alive else "The queue is no longer emptied."

    def why_not_ready(self) -> str:
        """Why pictures are not answered; empty while they are."""
        return self.why_not_live() or self.batcher.failure

    async def try_again(self) -> None:
        """Ask a failed engine once more: without requests, an unready service would never learn that it is well."""
        spec = self.served.manifest.input
        with suppress(EngineError):
            await self.batcher.submit(np.zeros((spec.height, spec.width, 3), np.uint8))

    async def start(self) -> None:
        """Begin to answer."""
        await self.batcher.start()

    async def stop(self) -> None:
        """Answer nothing more."""
        await self.batcher.stop()
        self._decoders.shutdown(cancel_futures=True)
