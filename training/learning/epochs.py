"""One epoch after the other: each is trained, validated, written down and shown as a row of one table."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.console.progress import Talk
from training.data.pixels import Pixels
from training.errors import Stopped, TrainingError
from training.learning import device as devices
from training.learning.learner import Learner
from training.metrics.classification import accuracy, macro_f1
from training.models.servable import Normalise
from training.recipes.recipe import Recipe
from training.runs.history import History, Row

HEADER = "epoch  train loss  val loss  val acc  val F1       lr  img/s  waits   time"  # waits: for data


def following(
    learner: Learner,
    sets: dict[str, Pixels],
    history: History,
    talk: Talk,
    stopping: Callable[[], bool],
    over: Callable[[], bool],
) -> Iterator[Row]:
    """The rows of the epochs that are left, each to be appended to `history`; fewer where no better one is hoped for or
    the run's minutes are `over`, which the first epoch does not go by: there would be no run. Raises Stopped."""
    rows, of = history.rows, history.recipe.epochs
    if not history.complete:
        talk.line(HEADER)
    while not history.complete:
        epoch = len(rows) + 1
        try:
            yield run(learner, sets, epoch, talk, lambda: stopping() or (bool(rows) and over()))
        except Stopped:
            if stopping():
                raise
            talk.fact("stop", f"the minutes are over, in epoch {epoch} of {of}; --resume goes on")
            return
    if len(rows) < of:
        talk.fact("stop", f"no epoch of the last {history.recipe.early_stop} was better")


def run(learner: Learner, sets: dict[str, Pixels], epoch: int, talk: Talk, stopping: Callable[[], bool]) -> Row:
    """Train and validate once; one row of metrics.jsonl.

    Raises TrainingError where the GPU's memory is too small or training diverged, Stopped once `stopping()` is true.
    """
    started, recipe, labels = time.monotonic(), learner.recipe, sets["val"].labels
    for span in learner.spans:  # what learns, where that is not simply everything, or changes
        if span.first == epoch and (len(learner.spans) > 1 or span.phase.unfrozen_stages is not None):
            talk.line(f"       {span}")
    with within_memory(recipe):
        with talk.step(f"epoch {epoch}", len(sets["train"])) as progress:
            stats = learner.epoch(sets["train"], epoch, progress, stopping)
        logits = logits_of(learner.validated, learner.normalise, sets["val"], learner.device)
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
    val_loss = losses.mean().item()
    if not (math.isfinite(stats.loss) and math.isfinite(val_loss)):  # no use, whatever the next epochs bring
        lower = f"lr={recipe.lr / 10:g}" if not recipe.phases else "'phases=[...]' with a tenth of each lr"
        message = f"the loss is no number in epoch {epoch}: training diverged"
        raise TrainingError(message, f"--set {lower}, or a larger batch_size")
    predicted = logits.argmax(dim=1).numpy()
    if learner.span.instant_head:
        learner.untuned_losses = losses
    beside_head = {} if learner.untuned_losses is None else gain(learner.untuned_losses - losses)
    return {
        "epoch": epoch,
        "train_loss": stats.loss,
        "val_loss": val_loss,
        **beside_head,
        "val_accuracy": accuracy(labels, predicted).value,
        "val_macro_f1": macro_f1(labels, predicted),
        "lr": stats.lr,
        "images_per_second": stats.images_per_second,
        "waiting_for_data": stats.waiting,
        "seconds": time.monotonic() - started,
    }


def gain(less: Tensor) -> dict[str, float]:
    """How much less the loss on val is than an instant head's, of float32[N] image by image, and its standard error."""
    error = less.std().item() / math.sqrt(len(less)) if len(less) > 1 else 0.0
    return {"val_gain": less.mean().item(), "val_gain_error": error}


@torch.inference_mode()
def logits_of(network: nn.Module, normalise: Normalise, pixels: Pixels, device: torch.device) -> Tensor:
    """float32[N, K] of a whole split, in order, in evaluation mode and float32."""
    network.eval()
    normalise = normalise.to(device)
    batches = pixels.batches(devices.EVALUATED_BYTES[device.type])
    return torch.cat(
        [network(devices.laid_out(normalise(torch.from_numpy(batch).to(device)))).cpu() for batch in batches]
    )


@contextmanager
def within_memory(recipe: Recipe) -> Iterator[None]:
    """Raises TrainingError where the GPU's memory does not hold a batch."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "MPS backend out of memory" not in str(error):
            raise
        hint = f"--set batch_size={max(2, recipe.batch_size // 2)}"
        raise TrainingError(f"the GPU's memory is too small for batches of {recipe.batch_size}", hint) from error


def line(row: Row, best: bool) -> str:
    """A row of metrics.jsonl below HEADER."""
    return (
        f"{row['epoch']:5d}  {row['train_loss']:10.3f}  {row['val_loss']:8.3f}  {row['val_accuracy']:7.4f}"
        f"  {row['val_macro_f1']:6.4f}  {row['lr']:7.1e}  {row['images_per_second']:5.0f}"
        f"  {100 * row['waiting_for_data']:3.0f} %  {clock(row['seconds']):>5}{'  best' if best else ''}"
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, e.g. `13:52`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
