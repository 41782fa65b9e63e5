"""Many callers' images in, few engine runs out, each caller gets its own row."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engines import EngineError, Runs

logger = logging.getLogger("sightglass")
_STOPPED = "the service stopped before this image's turn"


class Answer(NamedTuple):
    """One image's row: probabilities and logits float32[K], heatmap float32[K, h, w] or None; times in seconds."""

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    heatmap: NDArray[np.float32] | None
    queue_seconds: float
    inference_seconds: float
    batch_size: int


@dataclass
class _Waiting:
    pixels: NDArray[np.uint8]
    answer: asyncio.Future[Answer]
    since: float


class Batcher:
    """An idle engine takes whatever is queued, at once; while it runs, the next batch gathers.

    `failure` is the engine's last error, empty while it works. The engine belongs to one thread of the batcher's own.
    """

    def __init__(
        self,
        engine: Runs,
        max_batch: int,
        delay_seconds: float = 0,
        observe: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        """`delay_seconds`: how long an idle engine waits for more; `observe` is told size and seconds of each run."""
        self.failure = ""
        self._engine = engine
        self._max_batch = max_batch
        self._delay_seconds = delay_seconds
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer; call it in the event loop that will call `submit`."""
        self._loop = asyncio.create_task(self._run())

    async def warm(self, pixels: NDArray[np.uint8]) -> None:
        """Run every size of batch on copies of uint8[H, W, 3]: a GPU chooses its kernels when a size first comes.

        Raises EngineError.
        """

        def run() -> None:
            for size in range(1, self._max_batch + 1):
                for _ in range(2):  # TorchScript compiles in the second run
                    self._engine.run(np.stack([pixels] * size))

        await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def stop(self) -> None:
        """Whoever still waits gets EngineError."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown()

    @property
    def alive(self) -> bool:
        """Whether the loop that empties the queue is running."""
        return self._loop is not None and not self._loop.done()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return len(self._queue)

    async def submit(self, pixels: NDArray[np.uint8]) -> Answer:
        """uint8[H, W, 3] -> its Answer. Cancelling the caller takes the image out of the queue.

        Raises EngineError where the engine failed on its batch, or nobody empties the queue any more.
        """
        if self._loop is None or self._loop.done():
            raise EngineError(_STOPPED)
        item = _Waiting(pixels, self._loop.get_loop().create_future(), time.perf_counter())
        self._queue.append(item)
        self._arrived.set()
        return await item.answer

    async def _run(self) -> None:
        """Batch after batch, until cancelled; a bug ends it too: a traceback in the log and nobody left waiting."""
        batch: list[_Waiting] = []
        try:
            while True:
                batch = []
                await self._gather(batch)
                if batch:
                    await self._answer(batch)
        except Exception:
            logger.exception("the queue is no longer emptied")
            raise
        finally:
            _fail([*batch, *self._queue], EngineError(_STOPPED))
            self._queue.clear()

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Everyone gets an answer or an error; `failure` is set where nobody got an answer."""
        error = await self._run_engine(batch)
        if error is not None:
            logger.error("engine: %s", error)
            if len(batch) > 1:
                error = await self._one_by_one(batch, error)
        self.failure = "" if error is None else str(error)
        if error is not None:
            _fail(batch, error)

    async def _one_by_one(self, batch: list[_Waiting], error: EngineError) -> EngineError | None:
        """One image's trouble is not the others', and what is too much at once may do in turn. After two that fail,
        when none has worked, it is the engine: the error is returned for all."""
        failed, worked = 0, False
        for item in batch:
            if item.answer.done():  # its caller has left since
                continue
            own = await self._run_engine([item])
            if own is None:
                worked = True
            else:
                failed, error = failed + 1, own
                _fail([item], own)
            if failed == 2 and not worked:
                break
        return None if worked else error

    async def _run_engine(self, batch: list[_Waiting]) -> EngineError | None:
        """Run and deliver, or say why not."""
        started = time.perf_counter()
        pixels = np.stack([item.pixels for item in batch])
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.run, pixels)
        except EngineError as error:
            return error
        seconds = time.perf_counter() - started
        for row, item in enumerate(batch):
            if not item.answer.done():  # cancelled while the engine ran
                heatmap = None if outputs.heatmap is None else outputs.heatmap[row]
                rows = outputs.probabilities[row], outputs.logits[row], heatmap
                item.answer.set_result(Answer(*rows, started - item.since, seconds, len(batch)))
        self._observe(len(batch), seconds)
        return None

    async def _gather(self, batch: list[_Waiting]) -> None:
        """Fill the batch with what is queued, but not with images whose callers have left."""
        await self._until(1)
        if self._delay_seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay_seconds):
                    await self._until(self._max_batch)
        while self._queue and len(batch) < self._max_batch:
            item = self._queue.popleft()
            if not item.answer.done():
                batch.append(item)

    async def _until(self, images: int) -> None:
        """Return once so many wait."""
        while len(self._queue) < images:
            self._arrived.clear()
            await self._arrived.wait()


def _fail(batch: list[_Waiting], error: EngineError) -> None:
    for item in batch:
        if not item.answer.done():
            item.answer.set_exception(error)
