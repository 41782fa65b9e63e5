"""Data sets by name: read from files of their official formats, and an error with the remedy where there are none."""

import hashlib
import io
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from training.data.dataset import Data
from training.data.source import index
from training.data.splits import split
from training.errors import TrainingError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sightglass"


def write_idx(folder: Path, name: str, array: NDArray[np.uint8]) -> None:
    """The format of the MNIST files: magic number, sizes, bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    (folder / name).write_bytes(header + array.tobytes())


def pixels_of(data: Data, path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data.read(path))))


@pytest.mark.parametrize(
    ("name", "folder", "label"), [("mnist", "MNIST", "3"), ("fashion-mnist", "FashionMNIST", "dress")]
)
def test_mnist_and_its_kind_keep_their_split(home: Path, name: str, folder: str, label: str) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    for prefix, part in (("train", slice(30)), ("t10k", slice(30, 40))):
        write_idx(home / folder / "raw", f"{prefix}-images-idx3-ubyte", drawn[part])
        write_idx(home / folder / "raw", f"{prefix}-labels-idx1-ubyte", labels[part])
    data = split(index(name), 0.3, 0.1, seed=0)
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 20, "val": 10, "test": 10}
    third = next(sample for sample in data.splits["test"] if sample.label == 3)
    assert third.path == f"test/{label}/00003.bmp"
    assert np.array_equal(pixels_of(data, third.path), drawn[33])


def test_cifar10_is_read_from_its_official_archive_layout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pickles of the real layout; only their checksums are not the official ones."""
    folder = home / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    sums = []
    for number in range(6):
        content = {"data": drawn[2 * number :][:2].reshape(2, -1), "labels": [number, 9]}
        if number == 5:
            content = {"data": drawn[10:].reshape(2, -1), "labels": [3, 4]}
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        (folder / name).write_bytes(pickle.dumps(content))
        sums.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": []}))
    meta = {**datasets.CIFAR10.meta, "md5": hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    data = index("cifar10")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 10, "test": 2}
    assert [sample.path for sample in data.splits["test"]] == ["test/cat/00000.bmp", "test/deer/00001.bmp"]
    assert np.array_equal(pixels_of(data, "test/deer/00001.bmp"), drawn[11].transpose(1, 2, 0))


@pytest.mark.parametrize("name", ["cifar10", "mnist", "fashion-mnist"])
def test_without_a_network_the_remedy_is_said(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for variable in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(TrainingError, match=f"{name} is not in .* and cannot be downloaded") as refusal:
            index(name)
    assert "\n" not in str(refusal.value)
    assert "copy it there, or name a folder" in refusal.value.hint
