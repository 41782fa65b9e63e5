"""One training run: data -> runs/<id>/."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from app.artifact.image import InputSpec
from app.engines import machine
from training import TrainingError, checkpoint, models, pixels
from training.data import Data, open_data
from training.graph import Normalise
from training.loop import Learner, Stopped, logits_of
from training.pixels import Pixels
from training.progress import Talk
from training.recipe import Recipe
from training.score import Accuracy, accuracy, macro_f1

HEADER = "epoch  train loss  val loss  val acc  val F1       lr   img/s  waiting for data    time"


@dataclass(frozen=True)
class Result:
    """The best epoch, counted from 1, its accuracy on val, and how long all epochs took."""

    epoch: int
    accuracy: Accuracy
    seconds: float


def train(source: str, out: Path, recipe: Recipe, resume: bool, talk: Talk, device: str = "auto") -> Result:
    """Train on `source` and leave the run in `out`; with `resume`, go on after the last finished epoch.

    Raises TrainingError for unusable data or folders, Stopped when interrupted (the run stays resumable).
    """
    device = _device(device)
    data = (
        _recorded(out)
        if resume
        else open_data(source, recipe.val_fraction, recipe.test_fraction, recipe.seed)
    )
    sets, spec = _prepare(data, out, recipe, resume, talk)
    torch.manual_seed(recipe.seed)
    network = models.build(recipe.model, recipe.channels, len(data.labels))
    learner = Learner(network, Normalise(spec.mean, spec.std), recipe, len(sets["train"]), device)
    _introduce(learner, recipe, talk)

    history: list[dict[str, Any]] = []
    if resume:
        state = checkpoint.load(out / "last.pt")
        learner.load_state_dict(state["learner"])
        history = state["history"]
        talk.fact("resume", f"after epoch {len(history)} of {recipe.epochs}")
    else:
        checkpoint.save(out / "last.pt", {"learner": learner.state_dict(), "history": history})
    checkpoint.write_metrics(out, history)

    talk.line(HEADER)
    with _interruptible(talk) as stopping:
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            row = _epoch(learner, sets, epoch, talk, stopping)
            best = all(_rank(row) > _rank(earlier) for earlier in history)
            history.append(row)
            if best:
                checkpoint.save(
                    out / "weights.pt", {"network": learner.best_network.state_dict(), "epoch": epoch}
                )
            checkpoint.save(out / "last.pt", {"learner": learner.state_dict(), "history": history})
            checkpoint.write_metrics(out, history)
            talk.line(_table_row(row, best))
    return _result(history, len(sets["val"]))


def _epoch(
    learner: Learner, sets: dict[str, Pixels], epoch: int, talk: Talk, stopping: Callable[[], bool]
) -> dict[str, Any]:
    """Train and validate once; one row of metrics.jsonl."""
    started = time.monotonic()
    with talk.step(f"epoch {epoch}", len(sets["train"])) as progress:
        stats = learner.epoch(sets["train"], epoch, progress, stopping)
    val = sets["val"]
    logits = logits_of(learner.best_network, learner.normalise, val, learner.device)
    labels = torch.from_numpy(val.labels)
    predicted = logits.argmax(dim=1).numpy()
    return {
        "epoch": epoch,
        "train_loss": stats.loss,
        "val_loss": torch.nn.functional.cross_entropy(logits, labels).item(),
        "val_accuracy": accuracy(val.labels, predicted).value,
        "val_macro_f1": macro_f1(val.labels, predicted),
        "lr": stats.lr,
        "images_per_second": stats.images_per_second,
        "waiting_for_data": stats.waiting,
        "seconds": time.monotonic() - started,
    }


def _table_row(row: dict[str, Any], best: bool) -> str:
    return (
        f"{row['epoch']:5d}  {row['train_loss']:10.3f}  {row['val_loss']:8.3f}  {row['val_accuracy']:7.4f}"
        f"  {row['val_macro_f1']:6.4f}  {row['lr']:7.1e}  {row['images_per_second']:6.0f}"
        f"  {100 * row['waiting_for_data']:14.0f} %  {clock(row['seconds']):>6}{'  best' if best else ''}"
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. `13:52`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    """Epochs compare by accuracy on val, then by loss."""
    return row["val_accuracy"], -row["val_loss"]


def _result(history: list[dict[str, Any]], n: int) -> Result:
    best = max(history, key=_rank)
    correct = round(best["val_accuracy"] * n)
    return Result(best["epoch"], Accuracy.of(correct, n), sum(row["seconds"] for row in history))


def _prepare(
    data: Data, out: Path, recipe: Recipe, resume: bool, talk: Talk
) -> tuple[dict[str, Pixels], InputSpec]:
    """Decode every split once, describe the data, and write the run's records (on a resume: check against them)."""
    unmeasured = (0.0,) * recipe.channels, (1.0,) * recipe.channels
    spec = InputSpec(
        width=recipe.input_size,
        height=recipe.input_size,
        channels=recipe.channels,
        crop_fraction=recipe.crop_fraction,
        interpolation=recipe.interpolation,
        mean=unmeasured[0],
        std=unmeasured[1],
    )
    recorded = checkpoint.Run.open(out).data()[1] if resume else {}
    sets = {}
    for name in data.splits:
        with talk.step(f"reading {name}", len(data.splits[name])) as progress:
            sets[name] = pixels.load(data, name, spec, recorded.get(name), progress=progress)
    if resume:
        return sets, checkpoint.Run.open(out).input
    mean, std = pixels.mean_and_std(sets["train"], recipe.channels)
    spec = spec.model_copy(update={"mean": mean, "std": std})
    out.mkdir(parents=True, exist_ok=True)
    _record(data, sets, spec, out, recipe)
    _describe(data, sets, out, talk)
    return sets, spec


def _recorded(out: Path) -> Data:
    return checkpoint.Run.open(out).data()[0]


def _record(data: Data, sets: dict[str, Pixels], spec: InputSpec, out: Path, recipe: Recipe) -> None:
    checkpoint.write_splits(
        out, data.labels, {name: (split.samples, split.sha256) for name, split in sets.items()}
    )
    meta = {
        "command": sys.argv,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe.model_dump(),
        "labels": data.labels,
        "input": spec.model_dump(),
        "data": {"source": data.source, "images": {name: len(split) for name, split in sets.items()}},
        "versions": {name: version(name) for name in ("sightglass", "torch", "numpy", "pillow")},
        "hardware": {
            "cpu": machine.cpu_model(),
            "instruction_set": machine.instruction_set(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "commit": _commit(),
    }
    checkpoint.write(out / "meta.json", json.dumps(meta, indent=2) + "\n")


def _commit() -> str:
    """The checkout's commit, with `+changes` where files differ from it; `unknown` outside a checkout."""
    git = shutil.which("git")
    here = Path(__file__).parent
    if git is None:
        return "unknown"
    answers = [
        subprocess.run([git, *words], cwd=here, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
        for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    if answers[0].returncode:
        return "unknown"
    return answers[0].stdout.strip() + ("+changes" if answers[1].stdout else "")


def _describe(data: Data, sets: dict[str, Pixels], out: Path, talk: Talk) -> None:
    counts = " / ".join(f"{name} {len(split):,}" for name, split in sets.items())
    total = sum(len(split) for split in sets.values())
    talk.fact("data", f"{data.source}: {total:,} images, {len(data.labels)} classes -> {counts}")
    skipped = [f"{path}\t{why}\n" for split in sets.values() for path, why in split.skipped]
    per_class = {label: int((sets["train"].labels == index).sum()) for index, label in enumerate(data.labels)}
    smallest = min(per_class, key=lambda label: per_class[label])
    if not per_class[smallest]:
        raise TrainingError(
            f'no readable picture of "{smallest}" is left to train on', "see the files of that class"
        )
    unread = ""
    if skipped:
        checkpoint.write(out / "skipped.txt", "".join(skipped))
        unread = f"skipped {len(skipped)} unreadable files, listed in {out / 'skipped.txt'}; "
    talk.fact("", f"{unread}smallest class: {smallest} {per_class[smallest]:,}")


def _introduce(learner: Learner, recipe: Recipe, talk: Talk) -> None:
    parameters = sum(p.numel() for p in learner.network.parameters()) / 1e6
    talk.fact("model", f"{recipe.model} at {recipe.input_size} px, {parameters:.2f} M parameters")
    where = (
        torch.cuda.get_device_name()
        if learner.device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    talk.fact(
        "machine",
        f"{learner.device.type}, {where} ({machine.cores().reason}), torch {torch.__version__}; {recipe.epochs} epochs",
    )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"there is no CUDA device here (torch {torch.__version__})", "leave --device out")
    return name


@contextmanager
def _interruptible(talk: Talk) -> Iterator[Callable[[], bool]]:
    """Ctrl-C once: stop after this batch. Twice: stop now."""
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise Stopped
        asked = True
        talk.line("stopping after this batch; Ctrl-C again stops now")

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)
