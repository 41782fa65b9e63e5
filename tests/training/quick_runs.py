"""Runs of one epoch in a fraction of a second, what they leave, and what differs between two."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.commands import QUIET
from training.console.progress import Talk
from training.learning import plan
from training.runs import checkpoint
from training.train import Result, train

TIMINGS = {"images_per_second", "waiting_for_data", "seconds"}
SHORT = ["epochs=1", "channels=3", "batch_size=32", "val_fraction=0.3"]


def learn(data: Path, out: Path, *settings: str, talk: Talk = QUIET, **how: bool) -> Result:
    """A run of one epoch in a fraction of a second."""
    made = plan.make(str(data), out, "digits", [*SHORT, *settings], device="cpu", **how)
    return train(made, talk)


def weights(run: Path, name: str = "weights.pt") -> dict[str, Any]:
    return checkpoint.load(run / name)


def tensors(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a checkpoint with its path."""
    if isinstance(state, dict | list):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from tensors(value, f"{path}/{key}")
    else:
        yield path, state


def differences(one: Path, other: Path, name: str) -> list[str]:
    """Paths of the leaves of two checkpoints that are not bit-identical; timings are allowed to differ."""
    first, second = dict(tensors(weights(one, name))), dict(tensors(weights(other, name)))
    assert first.keys() == second.keys()
    assert any(isinstance(leaf, torch.Tensor) for leaf in first.values())
    return [
        path
        for path, leaf in first.items()
        if path.rpartition("/")[2] not in TIMINGS
        and not (torch.equal(leaf, second[path]) if isinstance(leaf, torch.Tensor) else leaf == second[path])
    ]


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl without their timings."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]
