"""Where a class's logit comes from, asked of any network: cover a part of the image and look what is lost."""

import asyncio
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.artifact.decoder.decode import InputSpec
from app.artifact.decoder.geometry import Size
from app.inference.batcher import Batcher
from app.limits.budget import Budget

PLACES = 8  # down and across: 64 more images for the engine
# Of a batch: an explanation takes as long as it takes, and images to classify find room in the same engine run.
_SHARE = 4


class Occlusion:
    """A grey patch slid over the model's pixels (Zeiler and Fergus 2014, arXiv:1311.2901).

    The patch has the mean colour of the training images, which says nothing either way, and is two places wide, so
    that neighbours overlap. All explanations of a worker together have at most a quarter of a batch in its queue.
    """

    def __init__(self, batcher: Batcher, spec: InputSpec, max_batch: int) -> None:
        self._batcher = batcher
        mean = spec.mean if spec.channels == 3 else spec.mean * 3
        self._grey = np.clip(np.round(np.array(mean) * 255), 0, 255).astype(np.uint8)
        self._share = Budget(max(1, max_batch // _SHARE))

    async def maps(
        self, pixels: NDArray[np.uint8], logits: NDArray[np.float32], margins: Size = (0, 0)
    ) -> NDArray[np.float32]:
        """uint8[H, W, 3] and its logits float32[K] -> by how much each falls with each place covered: float32[K, h, w].

        h and w are 8, or the image's size if that is less. Of `margins`, pixels of padding at either side, above and
        below, nothing is covered: there 0 is lost. Raises EngineError.
        """
        height, width, _ = pixels.shape
        rows, columns = list(_patches(height, margins[1])), list(_patches(width, margins[0]))
        tasks = [
            asyncio.ensure_future(self._without(pixels, logits, row, column)) for row in rows for column in columns
        ]
        try:
            left = np.stack(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the first that fails, and a client that leaves, end all
                task.cancel()
        return (logits - left).T.reshape(-1, len(rows), len(columns))

    async def _without(
        self, pixels: NDArray[np.uint8], logits: NDArray[np.float32], rows: slice, columns: slice
    ) -> NDArray[np.float32]:
        if not pixels[rows, columns].size:
            return logits
        await self._share.take(1)
        try:
            covered = pixels.copy()
            covered[rows, columns] = self._grey
            return (await self._batcher.submit(covered)).logits
        finally:
            self._share.give(1)


def _patches(size: int, margin: int) -> Iterator[slice]:
    """Two places wide, around the middle of each place, but for the padding."""
    places = min(PLACES, size)
    for place in range(places):
        start, end = (place - 0.5) * size / places, (place + 1.5) * size / places
        yield slice(max(margin, math.floor(start + 0.5)), max(0, min(size - margin, math.floor(end + 0.5))))
