"""What a run reads before its first epoch, and how often."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app import machine
from tests.commands import QUIET
from tests.training import colours
from training.learning import plan, prepare
from training.learning.plan import Plan

IMAGE_BYTES = 8 * 8 * 3


def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> Plan:
    """18 images a class in train, 6 in val, 6 in test, at 8 px, on a machine with so much memory."""
    for split, each in (("train", 18), ("val", 6), ("test", 6)):
        colours.write(tmp_path / "data" / split, each=each)
    made = plan.make(str(tmp_path / "data"), tmp_path / "run", "digits", ["input_size=8", "channels=3"])
    monkeypatch.setattr(machine, "memory_bytes", lambda: memory)
    return made


def test_data_larger_than_memory_are_read_once_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, times = planned(tmp_path, monkeypatch, 4), Counter[str]()

    def counted(path: str) -> bytes:
        times[path] += 1
        return read(path)

    read = large.data.read
    large = replace(large, data=replace(large.data, read=counted))
    found = prepare.read(large, QUIET)
    assert not any(split.in_memory for split in found.sets.values())
    assert set(times.values()) == {1}
    assert len(times) == sum(len(samples) for samples in large.data.splits.values())

    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**30)
    small = prepare.read(large, QUIET)
    assert small.input == found.input
    assert all((small.hashes[name] == found.hashes[name]).all() for name in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("images", "kept"),
    [(1e6, {"train", "val"}), (18 * 3 + 6 * 3, {"train", "val"}), (18 * 3 + 17, {"train"}), (18, {"val"})],
)
def test_train_and_val_share_a_quarter_of_the_memory_and_test_is_only_looked_at(
    images: float, kept: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = prepare.read(planned(tmp_path, monkeypatch, int(images * IMAGE_BYTES * 4)), QUIET).sets
    assert {name for name, split in sets.items() if split.in_memory} == kept
    assert all(split.take(np.arange(2)).shape == (2, 8, 8, 3) for split in sets.values())
