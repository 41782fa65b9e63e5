"""One request: bytes -> decoded pixels -> a place in the queue -> this image's row -> labels with probabilities."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.artifact.decoder.decode import Decoded, Preview, decode
from app.artifact.decoder.header import inspect, inspect_quickly
from app.artifact.doubt import Doubts
from app.artifact.ranking import Ranked, rank
from app.engines import EngineError
from app.errors import Problem
from app.inference.batcher import Answer, Batcher
from app.inference.heatmap import OVERLAY_BYTES
from app.inference.loading import Served
from app.limits.admission import Admission
from app.limits.decoders import Decoders
from app.limits.memory import Memory

P = ParamSpec("P")
T = TypeVar("T")

# By file size and memory to decode it: what takes less than 2 ms. A thread and its quarrels over the interpreter cost
# 0.4 ms more than to decode it at once (docs/performance.md).
_SMALL_FILE_BYTES, _SMALL_BYTES = 65_536, 327_680


class Prediction(NamedTuple):
    """`top_k`: (label, probability) by falling probability; `doubts`: what the manifest has thresholds for;
    `decode_seconds` includes the wait for a decoder thread."""

    top_k: Ranked
    doubts: Doubts
    decoded: Decoded
    answer: Answer
    decode_seconds: float


class Classifier:
    """The request pipeline around one served variant."""

    def __init__(
        self, served: Served, batcher: Batcher, admission: Admission, memory: Memory, threads: int, max_pixels: int
    ) -> None:
        """`threads` decode."""
        self.served = served
        self.batcher = batcher
        self.admission = admission
        self._max_pixels = max_pixels
        self._decoders = Decoders(threads, memory.decoding_bytes)

    async def predict(self, data: bytes, top_k: int) -> Prediction:
        """Classify one encoded image; 1 <= top_k <= number of labels. Raises ImageError or EngineError."""
        started = time.perf_counter()
        decoded = await self._decode(data)
        decode_seconds = time.perf_counter() - started
        return self.told(await self.batcher.submit(decoded.pixels), decoded, top_k, decode_seconds)

    def told(self, answer: Answer, decoded: Decoded, top_k: int, decode_seconds: float = 0.0) -> Prediction:
        """The answer in the words of the manifest: labels and doubts."""
        manifest = self.served.manifest
        ranked = rank(answer.probabilities, manifest.labels, top_k)
        doubts = manifest.doubts(answer.probabilities, answer.logits, answer.heatmap, ranked)
        return Prediction(ranked, doubts, decoded, answer, decode_seconds)

    async def _decode(self, data: bytes) -> Decoded:
        """A small image at once, any other in a decoder's thread."""
        spec, max_pixels = self.served.manifest.input, self._max_pixels
        small = len(data) <= _SMALL_FILE_BYTES
        header = inspect_quickly(data, spec, max_pixels, small)
        if header and small and header.memory <= _SMALL_BYTES:
            return decode(data, header)
        async with self._decoders.thread() as thread:
            if header is None:
                header = await thread.run(inspect, data, spec, max_pixels, thread.stop)
            await thread.reserve(header.memory)
            return await thread.run(decode, data, header)

    async def display(self, data: bytes, longest_side: int, draw: Callable[[NDArray[np.uint8]], bytes]) -> bytes:
        """What `heatmap.overlay` makes, as `draw`, in a decoder's thread, of the image as displayed: uint8[h, w, 3]."""
        preview = Preview(longest_side)
        async with self._decoders.thread() as thread:
            header = await thread.run(inspect, data, preview, self._max_pixels, thread.stop)
            width, height = preview.size_of(header.size)
            await thread.reserve(max(header.memory, width * height * OVERLAY_BYTES))
            return await thread.run(lambda: draw(decode(data, header).pixels))

    async def in_thread(self, needed: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` gives in a decoder's thread; it makes at most `needed` bytes of an upload that is no image.

        Raises Problem: upload_too_large, if they never can be free.
        """
        if needed > (total := self._decoders.memory.total[0]):
            has = f"of its memory limit the service has {total / 1e6:.0f} MB for that"
            raise Problem("upload_too_large", f"The upload needs {needed / 1e6:.0f} MB to be read; {has}.")
        async with self._decoders.thread() as thread:
            await thread.reserve(needed)
            return await thread.run(work, *args, **kwargs)

    def why_not_live(self) -> str:
        """Why only a restart can help; empty while there is hope."""
        return "" if self.batcher.alive else "The queue is no longer emptied."

    def why_not_ready(self) -> str:
        """Why images are not answered; empty while they are."""
        return self.why_not_live() or self.batcher.failure

    async def try_again(self) -> None:
        """Ask a failed engine once more: without requests, an unready service would never learn that it is well."""
        with suppress(EngineError):
            await self.batcher.submit(self._blank())

    def _blank(self) -> NDArray[np.uint8]:
        spec = self.served.manifest.input
        return np.zeros((spec.height, spec.width, 3), np.uint8)

    async def start(self) -> None:
        """Begin to answer."""
        if self.served.engine.device != "cpu":
            with suppress(EngineError):  # a failure shows again, and is told, when it is asked
                await self.batcher.warm(self._blank())
        await self.batcher.start()

    async def stop(self) -> None:
        """Answer nothing more."""
        await self.batcher.stop()
        self._decoders.stop()
