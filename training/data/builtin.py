"""The data sets that have a name: scikit-learn's digits, and torchvision's where they can be downloaded."""

import io
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.data.dataset import Data, Sample
from training.errors import TrainingError


def digits() -> Data:
    """scikit-learn's 1,797 scanned 8x8 digits (UCI optdigits, test part), not split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * 255 / 16).round().astype(np.uint8)
    return _in_memory("digits", [str(digit) for digit in range(10)], {"all": (images, found.target)})


def of_torchvision(source: str, name: str, labels: Sequence[str]) -> Data:
    """torchvision's data set `name`, downloaded where it is not in the cache yet. Raises TrainingError."""
    from torchvision import datasets

    parts = {}
    for split, train in (("train", True), ("test", False)):
        try:
            part = getattr(datasets, name)(cache(), train=train, download=True)
        except (OSError, RuntimeError) as error:  # no network, or a file that is not what its checksum says
            why = " ".join(str(error).split())  # torchvision's has a line for each mirror
            raise TrainingError(
                f"{source} is not in {cache()} and cannot be downloaded: {why}",
                f"fetch it elsewhere as torchvision.datasets.{name} does and copy it there, or name a folder",
            ) from error
        parts[split] = np.asarray(part.data), np.asarray(part.targets)
    return _in_memory(source, labels, parts)


def cache() -> Path:
    """Where downloaded data sets are kept: `sightglass` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightglass"


def _in_memory(source: str, labels: Sequence[str], splits: dict[str, tuple[Any, Any]]) -> Data:
    """uint8[N, H, W] or [N, H, W, 3] and int[N] for each split, read as if they were files.

    As BMP, because its bytes, and so the recorded sha256 sums, do not depend on the version of a compressor.
    """
    samples: dict[str, tuple[Sample, ...]] = {}
    images: dict[str, Any] = {}
    for split, (arrays, targets) in splits.items():
        folder = "" if split == "all" else f"{split}/"
        paths = [f"{folder}{labels[target]}/{number:05}.bmp" for number, target in enumerate(targets)]
        images.update(zip(paths, arrays, strict=True))
        samples[split] = tuple(sorted(Sample(path, int(target)) for path, target in zip(paths, targets, strict=True)))

    def read(path: str) -> bytes:
        if path not in images:
            raise FileNotFoundError(f"{source} has no {path}")
        buffer = io.BytesIO()
        Image.fromarray(images[path]).save(buffer, "BMP")
        return buffer.getvalue()

    return Data(source, tuple(labels), samples, read)


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

NAMED: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "cifar10": partial(of_torchvision, "cifar10", "CIFAR10", _CIFAR10),
    "mnist": partial(of_torchvision, "mnist", "MNIST", tuple(str(digit) for digit in range(10))),
    "fashion-mnist": partial(of_torchvision, "fashion-mnist", "FashionMNIST", _FASHION),
}
