"""One training run: data -> runs/<id>/."""

import copy
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from app import machine
from app.artifact.decoder.decode import InputSpec
from training import atomic, interruption, locks
from training.console.progress import Talk
from training.console.terminal import count
from training.data import near_duplicates
from training.data.pixels import Pixels
from training.errors import Stopped, TrainingError
from training.learning import prepare, provenance
from training.learning.learner import Learner, logits_of, use_cores
from training.learning.optim import Span
from training.learning.plan import Plan
from training.learning.prepare import Read
from training.metrics.classification import Accuracy, accuracy, macro_f1
from training.models.servable import Normalise
from training.recipes.recipe import Recipe
from training.runs import checkpoint, mlflow
from training.runs.trained_model import untrained

HEADER = "epoch  train loss  val loss  val acc  val F1       lr  img/s  waits   time"  # waits: for data
History = list[dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """The best epoch, counted from 1, its accuracy on val, and how long all epochs took."""

    epoch: int
    accuracy: Accuracy
    seconds: float


def train(plan: Plan, talk: Talk) -> Result:
    """Train as planned and leave the run in `plan.out`; a resumed run goes on after its last finished epoch.

    Raises TrainingError for unusable data or where another process writes the run, Stopped when interrupted (the run
    stays resumable).
    """
    with locks.writing(plan.out) as locked:
        if not locked:
            where = f"{plan.out} lies on a filesystem without locks"
            talk.fact("warn", f"{where}: nothing stops a second training from writing there too")
        if plan.resumed is None:  # once more: another training may have come and gone since the plan was made
            checkpoint.require_new(plan.out, force=plan.force)
        with nullcontext() if plan.resumed is None else _saying_how_to_go_on(plan):
            tracker = mlflow.connect(plan.out, talk, resumed=plan.resumed is not None)
            data = prepare.read(plan, talk)
            learner = _learner(plan, data.input, len(data.sets["train"]), talk)
        if plan.resumed is None:
            _start_run(plan, data, learner)
        with _saying_how_to_go_on(plan):
            return _go_on(plan, data.sets, learner, tracker, talk)


def _go_on(plan: Plan, sets: dict[str, Pixels], learner: Learner, tracker: mlflow.Tracker, talk: Talk) -> Result:
    """From the run's last finished epoch to the last of all."""
    state = checkpoint.load_state(plan.out)
    with checkpoint.fitting(plan.out / "last.pt"):
        learner.load_state_dict(state["learner"])
    checkpoint.save_state(plan.out, state)
    history: History = state["history"]
    if plan.resumed is not None:
        _say_where(history, plan, talk)
    with mlflow.following(tracker), interruption.patient(talk.line) as asked:
        if len(history) < plan.recipe.epochs:
            talk.line(HEADER)
        for epoch in range(len(history) + 1, plan.recipe.epochs + 1):
            _announce(learner.spans, epoch, talk)
            row = _epoch(learner, sets, epoch, talk, asked)
            history.append(row)
            improved = row is max(history, key=checkpoint.rank(plan.recipe))
            if improved:
                state["best"] = {"network": copy.deepcopy(learner.validated.state_dict()), "epoch": epoch}
            state["learner"] = learner.state_dict()
            checkpoint.save_state(plan.out, state)
            talk.line(_table_row(row, improved))
            tracker.send("RUNNING")
    result = _result(plan.recipe, history, len(sets["val"]))
    score = "" if plan.recipe.balance == "none" else " by macro F1"
    talk.fact("done", f"best epoch{score} {result.epoch}: val accuracy {result.accuracy} in {clock(result.seconds)}")
    return result


def _say_where(history: History, plan: Plan, talk: Talk) -> None:
    done, epochs = len(history), plan.recipe.epochs
    talk.fact("resume", f"after epoch {done} of {epochs}" if done < epochs else f"all {epochs} epochs are finished")


def rehearse(plan: Plan, talk: Talk) -> float:
    """Read everything, train a few batches on a network that is thrown away, and say how long the run will take.

    Answers that in seconds: 0 where a finished run would be resumed. Raises TrainingError.
    """
    data = prepare.read(plan, talk)
    train = data.sets["train"]
    learner = _learner(plan, data.input, len(train), talk)
    history: History = checkpoint.load_state(plan.out)["history"] if plan.resumed else []
    if plan.resumed:
        _say_where(history, plan, talk)
    left = [(number, span) for number, span in enumerate(learner.spans) if span.last > len(history)]
    seconds = 0.0
    images = 0
    for number, span in left:
        learner.enter(number)
        with _within_memory(plan.recipe):
            rate = learner.images_per_second(train)
        still = len(train) * (span.last - max(len(history), span.first - 1))
        images, seconds = images + still, seconds + still / rate
    if left:
        about = max(1, round(seconds / 60))
        talk.fact("plan", f"{images / seconds:.0f} images/s: about {about} min; nothing was written")
    return seconds


def _learner(plan: Plan, spec: InputSpec, images: int, talk: Talk) -> Learner:
    torch.manual_seed(plan.recipe.seed)
    network = untrained(plan.recipe, len(plan.data.labels))
    start = "resumed" if plan.resumed else "from scratch"
    if plan.weights:
        kept = plan.weights.copy_into(network, plan.data.labels, plan.recipe.model)
        start = f"from {plan.weights.name}" + ("" if kept else ", with a new head")
    learner = Learner(network, Normalise(spec.mean, spec.std), plan.recipe, images, plan.device)
    _introduce(learner, plan, start, talk)
    return learner


def _introduce(learner: Learner, plan: Plan, start: str, talk: Talk) -> None:
    recipe = plan.recipe
    threads = count(use_cores(), "thread")
    parameters = sum(p.numel() for p in learner.network.parameters()) / 1e6
    talk.fact("recipe", f"{plan.choice.recipe}: {plan.choice.why}")
    if plan.choice.expect:
        talk.fact("expect", plan.choice.expect)
    fit = "" if recipe.fit == "crop" else f" (fit {recipe.fit})"
    talk.fact("model", f"{recipe.model} at {recipe.input_size} px{fit}, {parameters:.2f} M parameters, {start}")
    where = torch.cuda.get_device_name() if plan.device == "cuda" else f"{threads} ({machine.cores().reason})"
    how = f"{learner.precision}, torch {torch.__version__}; {count(recipe.epochs, 'epoch')}"
    talk.fact("machine", f"{plan.device}, {where}, {how}")


def _start_run(plan: Plan, data: Read, learner: Learner) -> None:
    """The run's records and its state before the first epoch."""
    skipped = [f"{path}\t{why}\n" for path, why in data.skipped]
    two_labels = ["\t".join(paths) + "\n" for paths in data.two_labels]
    splits = {name: (split.samples, split.sha256) for name, split in data.sets.items()}
    with checkpoint.new_run(plan.out) as folder:
        if skipped:
            atomic.write(folder / "skipped.txt", "".join(skipped))
        if two_labels:
            atomic.write(folder / "two_labels.txt", "".join(two_labels))
        checkpoint.write_splits(folder, plan.data.labels, splits)
        near_duplicates.save(folder, data.hashes)
        checkpoint.save(folder / "last.pt", {"learner": learner.state_dict(), "history": [], "best": {}})
        provenance.describe(plan, data.sets, data.input, learner.precision).save(folder)


def _epoch(
    learner: Learner, sets: dict[str, Pixels], epoch: int, talk: Talk, asked: Callable[[], bool]
) -> dict[str, Any]:
    """Train and validate once; one row of metrics.jsonl."""
    started = time.monotonic()
    labels = sets["val"].labels
    with _within_memory(learner.recipe):
        with talk.step(f"epoch {epoch}", len(sets["train"])) as progress:
            stats = learner.epoch(sets["train"], epoch, progress, asked)
        logits = logits_of(learner.validated, learner.normalise, sets["val"], learner.device)
    val_loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    _require_finite(learner.recipe, epoch, stats.loss, val_loss)
    predicted = logits.argmax(dim=1).numpy()
    return {
        "epoch": epoch,
        "train_loss": stats.loss,
        "val_loss": val_loss,
        "val_accuracy": accuracy(labels, predicted).value,
        "val_macro_f1": macro_f1(labels, predicted),
        "lr": stats.lr,
        "images_per_second": stats.images_per_second,
        "waiting_for_data": stats.waiting,
        "seconds": time.monotonic() - started,
    }


@contextmanager
def _within_memory(recipe: Recipe) -> Iterator[None]:
    """Raises TrainingError where the GPU's memory does not hold a batch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        hint = f"--set batch_size={max(2, recipe.batch_size // 2)}"
        raise TrainingError(f"the GPU's memory is too small for batches of {recipe.batch_size}", hint) from error


def _require_finite(recipe: Recipe, epoch: int, *losses: float) -> None:
    """Raises TrainingError: such a network is of no use, whatever the next epochs bring."""
    if not all(map(math.isfinite, losses)):
        message = f"the loss is no number in epoch {epoch}: training diverged"
        lower = f"lr={recipe.lr / 10:g}" if not recipe.phases else "'phases=[...]' with a tenth of each lr"
        raise TrainingError(message, f"--set {lower}, or a larger batch_size")


def _announce(spans: Sequence[Span], epoch: int, talk: Talk) -> None:
    """Say what learns where that is not simply everything, or changes."""
    for span in spans:
        if span.first == epoch and (len(spans) > 1 or span.phase.unfrozen_stages is not None):
            talk.line(f"       {span}")


def _table_row(row: dict[str, Any], best: bool) -> str:
    return (
        f"{row['epoch']:5d}  {row['train_loss']:10.3f}  {row['val_loss']:8.3f}  {row['val_accuracy']:7.4f}"
        f"  {row['val_macro_f1']:6.4f}  {row['lr']:7.1e}  {row['images_per_second']:5.0f}"
        f"  {100 * row['waiting_for_data']:3.0f} %  {clock(row['seconds']):>5}{'  best' if best else ''}"
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. `13:52`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _result(recipe: Recipe, history: History, n: int) -> Result:
    best = max(history, key=checkpoint.rank(recipe))
    correct = round(best["val_accuracy"] * n)
    return Result(best["epoch"], Accuracy.of(correct, n), sum(row["seconds"] for row in history))


@contextmanager
def _saying_how_to_go_on(plan: Plan) -> Iterator[None]:
    try:
        yield
    except Stopped as stopped:
        words = ["sightglass", "train", plan.data.source, "--out", str(plan.out), "--resume", "--device", plan.device]
        command = f"next     {shlex.join(words)}"
        raise Stopped(f"{stopped}; finished epochs are kept\n{command}", stopped.number) from stopped
