"""One training run: data -> runs/<id>/."""

import copy
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from training import interruption, locks
from training.console.progress import Talk
from training.errors import Stopped
from training.learning import budget, epochs, prepare, provenance
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.learning.prepare import RunData
from training.metrics.classification import Accuracy
from training.recipes.recipe import Recipe
from training.runs import checkpoint, mlflow

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
    started = time.monotonic()
    with ExitStack() as stack:
        if not stack.enter_context(locks.writing(plan.out)):
            where = f"{plan.out} lies on a filesystem without locks"
            talk.fact("warn", f"{where}: nothing stops a second training from writing there too")
        if plan.resumed:
            stack.enter_context(resumable(plan))
        else:  # once more: another training may have come and gone since the plan was made
            checkpoint.require_new(plan.out, force=plan.force)
        tracker = mlflow.connect(plan.out, talk, resumed=plan.resumed is not None)
        data = prepare.read(plan, talk)
        plan = budget.within(plan, data, started, talk)
        learner = prepare.learner(plan, data, talk)
        if not plan.resumed:
            provenance.begin(plan, data, learner)
            stack.enter_context(resumable(plan))

        state = checkpoint.load_state(plan.out)
        with checkpoint.fitting(plan.out / "last.pt"):
            learner.load_state_dict(state["learner"])
        history: History = state["history"]
        if plan.resumed:
            checkpoint.save_state(plan.out, state)
            talk.fact("resume", progress(history, plan))
        stack.enter_context(mlflow.following(tracker))
        stopping = stack.enter_context(interruption.after_this_batch(talk.line))
        over = budget.over(plan, started)
        if not complete(history, plan.recipe):
            talk.line(epochs.HEADER)
        for row in following_epochs(plan, learner, data, history, talk, stopping, over):
            history.append(row)
            improved = row is max(history, key=checkpoint.rank(plan.recipe))
            if improved:
                state["best"] = {"network": copy.deepcopy(learner.validated.state_dict()), "epoch": row["epoch"]}
            state["learner"] = learner.state_dict()
            checkpoint.save_state(plan.out, state)
            talk.line(epochs.line(row, improved))
            tracker.send("RUNNING")
        if stopping():  # since the last batch: what is left is too little to throw an epoch away for
            talk.fact("stop", "it came after the last batch: the run is complete")
        if plan.recipe.head_fit == "logistic" and len(history) > 1:
            kept = epochs.kept(history, checkpoint.rank(plan.recipe), len(data.sets["val"]))
            checkpoint.Run.open(plan.out).meta.model_copy(update={"kept": kept}).save(plan.out)
            talk.fact("kept", kept)
    best, n = max(history, key=checkpoint.rank(plan.recipe)), len(data.sets["val"])
    score, seconds = Accuracy.of(round(best["val_accuracy"] * n), n), sum(row["seconds"] for row in history)
    by = "" if plan.recipe.balance == "none" else " by macro F1"
    talk.fact("done", f"best epoch{by} {best['epoch']}: val accuracy {score} in {epochs.clock(seconds)}")
    return Result(best["epoch"], score, seconds)


def following_epochs(
    plan: Plan,
    learner: Learner,
    data: RunData,
    history: History,
    talk: Talk,
    stopping: Callable[[], bool],
    over: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    """The rows of the epochs that are left, each to be appended to `history`; fewer where no better one is hoped for or
    the plan's minutes are over, which the first epoch does not go by: there would be no run. Raises Stopped."""
    while not complete(history, plan.recipe):
        epoch = len(history) + 1
        try:
            yield epochs.run(learner, data.sets, epoch, talk, lambda: stopping() or (bool(history) and over()))
        except Stopped:
            if stopping():
                raise
            talk.fact("stop", f"the minutes are over, in epoch {epoch} of {plan.recipe.epochs}; --resume goes on")
            return
    if len(history) < plan.recipe.epochs:
        talk.fact("stop", f"no epoch of the last {plan.recipe.early_stop} was better")


@contextmanager
def resumable(plan: Plan) -> Iterator[None]:
    """From here on there is a run: whoever stops it is told how to go on."""
    try:
        yield
    except Stopped as stopped:
        words = ["sightglass", "train", plan.data.source, "--out", str(plan.out), "--resume", "--device", plan.device]
        command = f"next     {shlex.join(words)}"
        raise Stopped(f"{stopped}; finished epochs are kept\n{command}", stopped.number) from stopped


def complete(history: History, recipe: Recipe) -> bool:
    """Whether all epochs are finished, or so many were no better than one before them that no more is hoped for."""
    if len(history) >= recipe.epochs or not recipe.early_stop or not history:
        return len(history) >= recipe.epochs
    best = max(history, key=checkpoint.rank(recipe))["epoch"]
    return len(history) - int(best) >= recipe.early_stop


def progress(history: History, plan: Plan) -> str:
    """Where a run is that goes on."""
    done, of = len(history), plan.recipe.epochs
    if done < of and complete(history, plan.recipe):
        return f"it was stopped after epoch {done} of {of}, for want of a better one"
    return f"after epoch {done} of {of}" if done < of else f"all {of} epochs are finished"


def rehearse(plan: Plan, talk: Talk) -> float:
    """Read everything, train a few batches on a network that is thrown away, and say how long the run will take.

    Answers that in seconds: 0 where a finished run would be resumed. Raises TrainingError.
    """
    started = time.monotonic()
    data = prepare.read(plan, talk)
    plan = budget.within(plan, data, started, talk)
    learner = prepare.learner(plan, data, talk)
    history: History = checkpoint.load_state(plan.out)["history"] if plan.resumed else []
    if plan.resumed:
        talk.fact("resume", progress(history, plan))
    images, seconds, train = 0, 0.0, data.sets["train"]
    for number, span in enumerate(learner.spans):
        if span.last > len(history) and not complete(history, plan.recipe):
            learner.enter(number)
            with epochs.within_memory(plan.recipe):
                rate = learner.images_per_second(train)
            left = len(train) * (span.last - max(len(history), span.first - 1))
            images, seconds = images + left, seconds + left / rate
    if images:
        about = max(1, round(seconds / 60))
        talk.fact("plan", f"{images / seconds:.0f} images/s: about {about} min; nothing was written")
    return seconds
