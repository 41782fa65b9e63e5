"""How many epochs fit into the minutes that a run may take, before it begins; and that it ends in time all the same."""

import time
from collections.abc import Callable
from dataclasses import replace

from training.console.progress import Talk
from training.console.terminal import count
from training.learning import epochs, prepare
from training.learning.plan import Plan
from training.learning.prepare import RunData

_PLANNED = 0.85  # of what is left: machines are not equally fast all the time, and the last epoch should be reached
_FORWARD = 0.3  # of a training step's time, without the way back
_FEWEST = 4  # epochs of fine-tuning, below which the rate is hardly up before it is down again


def within(plan: Plan, data: RunData, started: float, talk: Talk) -> Plan:
    """The plan with no more epochs than fit into its minutes, counted from `started` (time.monotonic), so that the
    learning rate comes to its end; by the rate of a few batches on a network that is thrown away.

    A run that is resumed keeps the epochs that it was begun with: its rates are made for them.
    """
    recipe, train = plan.recipe, data.sets["train"]
    if plan.minutes is None or plan.resumed or recipe.epochs == 1:
        return plan
    learner = prepare.learner(plan, data, Talk(quiet=True))
    learner.enter(len(learner.spans) - 1)  # where most learns
    with epochs.within_memory(recipe):
        rate = learner.images_per_second(train)
    each = (len(train) + _FORWARD * len(data.sets["val"])) / rate
    head = learner.spans[0].instant_head
    left = 60 * plan.minutes + started - time.monotonic()
    fit = int(_PLANNED * left / each - _FORWARD * head)
    fewest, most = max(1, len(recipe.phases)), recipe.epochs - head
    fit = min(max(fit, 0 if head else fewest), most)
    if head and fit < max(_FEWEST, fewest):
        talk.fact("minutes", f"at {rate:.0f} images/s {plan.minutes:g} are too few to fine-tune: the head alone")
        return replace(plan, recipe=recipe.model_copy(update={"epochs": 1}))
    which = f"{count(fit, 'epoch')} of fine-tuning" if head else count(fit, "epoch")
    talk.fact("minutes", f"{which} at {rate:.0f} images/s: about {each * (fit + _FORWARD * head) / 60:.1f} min")
    return replace(plan, recipe=recipe.model_copy(update={"epochs": fit + head}))


def over(plan: Plan, started: float) -> Callable[[], bool]:
    """Whether the plan's minutes, counted from `started`, are over."""
    ends = started + 60 * plan.minutes if plan.minutes is not None else float("inf")
    return lambda: time.monotonic() > ends
