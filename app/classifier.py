"""One request: bytes -> decoded pixels -> a place in the queue -> this picture's row -> labels with probabilities."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from app.artifact.image import Decoded, decode
from app.batcher import Answer, Batcher
from app.errors import Problem
from app.startup import Served


@dataclass(frozen=True)
class Prediction:
    """`top_k`: (label, probability) by falling probability; `decode_seconds` includes the wait for a decoder thread."""

    top_k: list[tuple[str, float]]
    decoded: Decoded
    answer: Answer
    decode_seconds: float


class Classifier:
    """The request pipeline around one served variant."""

    def __init__(self, served: Served, batcher: Batcher, threads: int, max_queue: int, max_pixels: int) -> None:
        """`threads` decode; `max_queue` images may be admitted and unanswered at once."""
        self.served = served
        self.batcher = batcher
        self.admitted = 0
        self.max_queue = max_queue
        self._max_pixels = max_pixels
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """A place for one image, taken before its upload is read. Raises Problem when all are taken."""
        if self.admitted >= self.max_queue:
            raise Problem("queue_full", f"{self.admitted} pictures are waiting; try again.", {"Retry-After": "1"})
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def predict(self, data: bytes, top_k: int) -> Prediction:
        """Classify one encoded picture; 1 <= top_k <= number of labels. Raises ImageError or EngineError."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        spec = self.served.manifest.input
        decoded = await loop.run_in_executor(self._decoders, decode, data, spec, self._max_pixels)
        decode_seconds = time.perf_counter() - started
        answer = await self.batcher.submit(decoded.pixels)
        labels = self.served.manifest.labels
        best = answer.probabilities.argsort()[::-1][:top_k]
        # by way of str: the shortest decimal that is this float32, half as long in JSON as its float64
        ranked = [(labels[place], float(str(answer.probabilities[place]))) for place in best]
        return Prediction(ranked, decoded, answer, decode_seconds)

    def why_not_ready(self) -> str:
        """Empty while the service can answer."""
        if not self.batcher.alive:
            return "The queue is not being emptied."
        return self.batcher.failure

    async def start(self) -> None:
        """Begin to answer."""
        await self.batcher.start()

    async def stop(self) -> None:
        """Answer nothing more."""
        await self.batcher.stop()
        self._decoders.shutdown(cancel_futures=True)
