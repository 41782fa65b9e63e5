"""One training run: data -> runs/<id>/."""

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from training import interruption, locks
from training.console.progress import Talk
from training.errors import Stopped
from training.learning import budget, epochs, prepare, provenance
from training.learning.plan import Plan
from training.learning.run_state import RunState
from training.metrics.classification import Accuracy
from training.runs import checkpoint, mlflow
from training.runs.history import History


@dataclass(frozen=True)
class Result:
    """The best epoch, counted from 1, its accuracy on val, and how long all epochs took."""

    epoch: int
    accuracy: Accuracy
    seconds: float

    @classmethod
    def of(cls, history: History, images: int) -> "Result":
        """`images`: how many val has."""
        best = history.best
        score = Accuracy.of(round(best["val_accuracy"] * images), images)
        return cls(best["epoch"], score, sum(row["seconds"] for row in history.rows))

    def __str__(self) -> str:
        return f"{self.epoch}: val accuracy {self.accuracy} in {epochs.clock(self.seconds)}"


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
        state = RunState.load(plan.out, learner, plan.recipe)
        history, images = state.history, len(data.sets["val"])
        if plan.resumed:
            state.save()  # what a process that was killed in between left behind of it
            talk.fact("resume", str(history))
        stack.enter_context(mlflow.following(tracker))
        stopping = stack.enter_context(interruption.after_this_batch(talk.line))
        for row in epochs.following(learner, data.sets, history, talk, stopping, budget.over(plan, started)):
            improved = state.add(row)
            talk.line(epochs.line(row, improved))
            tracker.send("RUNNING")
        if stopping():  # since the last batch: what is left is too little to throw an epoch away for
            talk.fact("stop", "it came after the last batch: the run is complete")
        if kept := history.kept(images):
            checkpoint.Run.open(plan.out).meta.model_copy(update={"kept": kept}).save(plan.out)
            talk.fact("kept", kept)
    result = Result.of(history, images)
    talk.fact("done", f"best epoch{'' if plan.recipe.balance == 'none' else ' by macro F1'} {result}")
    return result


@contextmanager
def resumable(plan: Plan) -> Iterator[None]:
    """From here on there is a run: whoever stops it is told how to go on."""
    try:
        yield
    except Stopped as stopped:
        words = ["sightglass", "train", plan.data.source, "--out", str(plan.out), "--resume", "--device", plan.device]
        command = f"next     {shlex.join(words)}"
        raise Stopped(f"{stopped}; finished epochs are kept\n{command}", stopped.number) from stopped


def rehearse(plan: Plan, talk: Talk) -> float:
    """Read everything, train a few batches on a network that is thrown away, and say how long the run will take.

    Answers that in seconds: 0 where a finished run would be resumed. Raises TrainingError.
    """
    started = time.monotonic()
    data = prepare.read(plan, talk)
    plan = budget.within(plan, data, started, talk)
    learner = prepare.learner(plan, data, talk)
    history = History(plan.recipe, checkpoint.load_state(plan.out)["history"] if plan.resumed else [])
    done = len(history.rows)
    if plan.resumed:
        talk.fact("resume", str(history))
    images, seconds, train = 0, 0.0, data.sets["train"]
    for number, span in enumerate(learner.spans):
        if span.last > done and not history.complete:
            learner.enter(number)
            with epochs.within_memory(plan.recipe):
                rate = learner.images_per_second(train)
            left = len(train) * (span.last - max(done, span.first - 1))
            images, seconds = images + left, seconds + left / rate
    if images:
        about = max(1, round(seconds / 60))
        talk.fact("plan", f"{images / seconds:.0f} images/s: about {about} min; nothing was written")
    return seconds
