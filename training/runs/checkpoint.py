"""A run folder: weights.pt, last.pt, meta.json, metrics.jsonl, splits.json."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.artifact.decoder.decode import InputSpec
from training import locks
from training.atomic import DiskFull, replacing, write
from training.data.dataset import Data, Sample
from training.data.source import origin, reader
from training.errors import TrainingError
from training.recipes.recipe import Recipe
from training.runs import schema
from training.runs.schema import Meta

FILES = (
    "weights.pt",
    "last.pt",
    "meta.json",
    "metrics.jsonl",
    "splits.json",
    "skipped.txt",
    "two_labels.txt",
    "dhash.npz",
    "mlflow.json",
)
SCORES = {
    "val_accuracy": "accuracy on val",
    "val_macro_f1": "macro F1 on val",
    "val_loss": "loss on val",
}  # by which epochs may compare
_NEW = ".new"  # in a run's folder: a disk of its own may be mounted there


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` whole with tensors, numbers and strings (what `weights_only=True` can load)."""
    content = io.BytesIO()  # first in memory: on a full disk torch's own writer dies of an error that names no disk
    torch.save(state, content)
    with replacing(path) as file:
        file.write(content.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote. Raises TrainingError for a missing or damaged file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise schema.unreadable(path, error) from error
    except Exception as error:  # torch.load raises whatever the unpickler or zip reader meets
        raise schema.damaged(path, "it is no checkpoint") from error
    if not isinstance(state, dict):
        raise schema.damaged(path, "it is no checkpoint")
    return state


def load_best(run: Path) -> dict[str, Tensor]:
    """The best checkpoint's tensors by name. Raises TrainingError."""
    path = run / "weights.pt"
    network = load(path).get("network")
    if not isinstance(network, dict) or not all(isinstance(tensor, Tensor) for tensor in network.values()):
        raise schema.damaged(path, "it holds no network")
    return network


def load_state(run: Path) -> dict[str, Any]:
    """What `save_state` wrote last. Raises TrainingError."""
    path = run / "last.pt"
    state = load(path)
    if state.keys() != {"learner", "history", "best"}:
        raise schema.damaged(path, "it holds no state of a training")
    schema.require_history(path, state["history"])
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Fill what meta.json describes with what `path` holds. Raises TrainingError where that does not fit."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:  # whatever torch meets first
        raise schema.damaged(path, "it is not of the network that meta.json describes") from error


def save_state(run: Path, state: dict[str, Any]) -> None:
    """`state`: learner, history (rows of metrics.jsonl) and best (network, epoch; empty before the first epoch).

    last.pt is the truth; weights.pt and metrics.jsonl are written whole from it, so that a process killed between the
    three leaves nothing that the next call, first of all the resume's, does not mend.
    """
    try:
        save(run / "last.pt", state)
        if state["best"]:
            save(run / "weights.pt", state["best"])
        write(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in state["history"]))
    except DiskFull as error:
        raise TrainingError(
            str(error), "make room there; --resume goes on after the last epoch that was saved"
        ) from error


def require_replaceable(run: Path) -> None:
    """Raises TrainingError where `run` holds anything but what a run consists of."""
    if run.is_file():
        raise TrainingError(f'"{run}" is a file', "name a folder with --out")
    begun = run / _NEW
    for path in (path for folder in (run, begun) if folder.is_dir() for path in folder.iterdir()):
        known = path == begun or path.name == locks.NAME
        if not known and path.name.removeprefix(".").removesuffix(".tmp") not in FILES:
            raise TrainingError(
                f'"{run}" holds "{path.name}", so it is more than a run', "name another folder with --out"
            )


def require_new(run: Path, *, force: bool) -> None:
    """Raises TrainingError where something is in the way of a new run in `run`: an old one without `force`."""
    if (run / "meta.json").exists() and not force:
        raise TrainingError(f'"{run}" exists', "--resume goes on with it, --force replaces it")
    require_replaceable(run)
    if not force and run.exists() and any(path.name != locks.NAME for path in run.iterdir()):
        raise TrainingError(f'"{run}" exists', "--force replaces it")


@contextmanager
def new_run(run: Path) -> Iterator[Path]:
    """A folder for a new run's files, which take the place of an old run's when all are there; what fails in here
    leaves what was there before.

    Raises TrainingError.
    """
    require_replaceable(run)
    made = not run.exists()
    folder = run / _NEW
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:  # an interrupt, too
        shutil.rmtree(folder, ignore_errors=True)
        if made:
            with suppress(OSError):
                run.rmdir()
        raise
    new = sorted(folder.iterdir(), key=lambda path: path.name == "meta.json")  # makes the folder a run: last
    for path in run.iterdir():
        if path not in (folder, run / locks.NAME):
            path.unlink()
    for path in new:
        path.replace(run / path.name)
    folder.rmdir()


def score(recipe: Recipe) -> str:
    """Of a row of metrics.jsonl, what epochs compare by: accuracy, macro F1 where rare classes count as much, or the
    loss where the first epoch is an instant head's: of the few images of such a val, it tells more than their number.
    """
    if recipe.balance != "none":
        return "val_macro_f1"
    return "val_loss" if recipe.head_fit == "logistic" else "val_accuracy"


def rank(recipe: Recipe) -> Callable[[dict[str, Any]], tuple[float, float]]:
    """`max(history, key=rank(recipe))` is the best epoch: by its score, of equals by its loss on val.

    After an instant head it is the last epoch whose loss on val is not above the head's by more than the standard error
    of the difference, or the head: not the one with the lowest loss, which of a small val is the luckiest.
    """
    name = score(recipe)
    if name == "val_loss":
        return lambda row: (row["epoch"] if row.get("val_gain", 0) >= -row.get("val_gain_error", 0) else 0, 0)
    return lambda row: (row[name], -row["val_loss"])


def write_splits(
    run: Path, labels: tuple[str, ...], splits: dict[str, tuple[tuple[Sample, ...], tuple[str, ...]]]
) -> None:
    """`splits`: name -> (samples, their sha256 sums)."""
    parts = []
    for name, (samples, sums) in splits.items():
        rows = [json.dumps([s.path, labels[s.label], digest]) for s, digest in zip(samples, sums, strict=True)]
        parts.append(f"{json.dumps(name)}: [\n" + ",\n".join(rows) + "\n]")
    write(run / "splits.json", "{" + ",\n".join(parts) + "}\n")


@dataclass(frozen=True)
class Run:
    """A run folder as read back: everything but the weights (see trained_model)."""

    folder: Path
    meta: Meta

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Raises TrainingError where `folder` is no run."""
        if not (folder / schema.META).exists():
            raise TrainingError(f'"{folder}" is no run: it has no meta.json', "sightglass train DATA --out RUN")
        return cls(folder, Meta.load(folder))

    @property
    def recipe(self) -> Recipe:
        """What it was trained by."""
        return self.meta.recipe

    @property
    def asked(self) -> Recipe:
        """The recipe before its weights had their say."""
        return self.meta.asked

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its K classes."""
        return self.meta.labels

    @property
    def input(self) -> InputSpec:
        """How its images become pixels of the model."""
        return self.meta.input

    @property
    def choice(self) -> tuple[str, str]:
        """The recipe's name, and why it is that one."""
        choice = self.meta.choice
        return (choice.recipe, choice.why) if choice else ("the run's own", "resumed")  # runs of old have none

    def was_trained_on(self, source: str) -> bool:
        """Whether `source`, a name or a path from here, is the run's own data."""
        own = self.meta.data.source
        return own in (source, origin(source))

    def history(self) -> list[dict[str, Any]]:
        """One row per finished epoch. Raises TrainingError."""
        path = self.folder / "metrics.jsonl"
        rows = schema.read_history(path)
        if not rows and (self.folder / "weights.pt").exists():
            raise schema.damaged(path, "it has no epoch, and weights.pt is of one")
        return rows

    def best(self) -> dict[str, Any]:
        """The row of the epoch that weights.pt is of. Raises TrainingError where none has finished."""
        rows = self.history()
        if not rows:
            raise TrainingError(f'"{self.folder}" has no finished epoch', "--resume goes on with it")
        return max(rows, key=rank(self.recipe))

    def data(self, source: str | None = None) -> Data:
        """The run's own splits, read from `source` (default: where it was trained)."""
        own = self.meta.data.source
        place = own if source is None or self.was_trained_on(source) else origin(source)
        number = {label: position for position, label in enumerate(self.labels)}
        splits = {
            name: tuple(Sample(path, number[label]) for path, label, _ in rows) for name, rows in self.splits().items()
        }
        return Data(place, self.labels, splits, reader(place))

    def checksums(self) -> dict[str, list[str]]:
        """The sha256 sums that the files of each split had."""
        return {name: [digest for _, _, digest in rows] for name, rows in self.splits().items()}

    def splits(self) -> dict[str, list[tuple[str, str, str]]]:
        """Split -> rows of path, label, sha256. Raises TrainingError."""
        return schema.read_splits(self.folder / "splits.json", self.labels)
