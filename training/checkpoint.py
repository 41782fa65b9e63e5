"""A run folder: weights.pt, last.pt, meta.json, metrics.jsonl, splits.json. Every file appears whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from app.artifact.image import InputSpec
from training import TrainingError, models
from training.data import Data, Sample, index
from training.recipe import Recipe, parse


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Temporary name, fsync, rename: a reader or a crash never meets half a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write(path: Path, text: str) -> None:
    """Replace `path` whole."""
    with _replacing(path) as file:
        file.write(text.encode())


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` whole with tensors, numbers and strings (what `weights_only=True` can load)."""
    with _replacing(path) as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote. Raises TrainingError for a missing or damaged file."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"there is no {path}", "no epoch has finished yet; add --resume to go on") from error
    except Exception as error:  # torch.load raises whatever the unpickler or zip reader meets
        raise TrainingError(f"{path} is damaged: {error}") from error
    return state


def write_metrics(run: Path, history: list[dict[str, Any]]) -> None:
    """The whole history each time: a killed run can neither lose nor repeat a row."""
    write(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))


def rank(row: dict[str, Any]) -> tuple[float, float]:
    """Epochs compare by accuracy on val, then by loss: `max(history, key=rank)` is the best one."""
    return row["val_accuracy"], -row["val_loss"]


def write_splits(
    run: Path, labels: tuple[str, ...], splits: dict[str, tuple[tuple[Sample, ...], tuple[str, ...]]]
) -> None:
    """`splits`: name -> (samples, their sha256 sums)."""
    rows = {
        name: [[sample.path, labels[sample.label], digest] for sample, digest in zip(samples, sums, strict=True)]
        for name, (samples, sums) in splits.items()
    }
    write(run / "splits.json", json.dumps(rows, separators=(",", ":")).replace("],[", "],\n["))


@dataclass(frozen=True)
class Run:
    """A run folder as read back: everything but the weights."""

    folder: Path
    meta: dict[str, Any]
    recipe: Recipe
    labels: tuple[str, ...]
    input: InputSpec

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Raises TrainingError where `folder` is no run."""
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except FileNotFoundError as error:
            raise TrainingError(
                f'"{folder}" is no run: it has no meta.json', "sightglass train DATA --out RUN"
            ) from error
        except ValueError as error:
            raise TrainingError(f"{folder}/meta.json is damaged: {error}") from error
        return cls(
            folder,
            meta,
            parse(meta["recipe"]),
            tuple(meta["labels"]),
            InputSpec.model_validate(meta["input"]),
        )

    def network(self) -> nn.Module:
        """The best checkpoint, in evaluation mode. Raises TrainingError without one."""
        network = models.build(self.recipe.model, self.recipe.channels, len(self.labels))
        network.load_state_dict(load(self.folder / "weights.pt")["network"])
        return network.eval()

    def history(self) -> list[dict[str, Any]]:
        """One row per finished epoch."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def data(self, source: str | None = None) -> Data:
        """The run's own splits, read from `source` (default: where it was trained)."""
        origin = source or str(self.meta["data"]["source"])
        number = {label: position for position, label in enumerate(self.labels)}
        splits = {
            name: tuple(Sample(path, number[label]) for path, label, _ in rows) for name, rows in self._splits().items()
        }
        return Data(origin, self.labels, splits, index(origin, self.labels).read)

    def checksums(self) -> dict[str, list[str]]:
        """The sha256 sums that the files of each split had."""
        return {name: [digest for _, _, digest in rows] for name, rows in self._splits().items()}

    def _splits(self) -> dict[str, list[tuple[str, str, str]]]:
        """Split -> rows of path, label, sha256."""
        try:
            rows: dict[str, list[tuple[str, str, str]]] = json.loads((self.folder / "splits.json").read_text())
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.folder}/splits.json cannot be read: {error}") from error
        return rows
