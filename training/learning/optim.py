"""Optimiser and schedule of each phase of a run: which parameters learn, at which rates, for how many steps."""

from dataclasses import dataclass

import torch
from torch.optim import lr_scheduler

from training.models.heads import Network
from training.recipes.recipe import Phase, Recipe


@dataclass(frozen=True)
class Span:
    """A phase and its epochs, counted from 1, both ends included."""

    phase: Phase
    first: int
    last: int

    @property
    def epochs(self) -> int:
        """At least 1."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        stages, lr, factor = self.phase.unfrozen_stages, self.phase.lr, self.phase.backbone_lr_factor
        if stages == 0:
            return f"the head alone learns, at {lr:.1e}"
        rest = "everything else" if stages is None else "the last stage" if stages == 1 else f"the last {stages} stages"
        if factor != 1:
            return f"the head learns at {lr:.1e}, {rest} at {factor * lr:.1e}"
        return f"everything learns at {lr:.1e}" if stages is None else f"the head and {rest} learn at {lr:.1e}"


def spans(recipe: Recipe) -> list[Span]:
    """The recipe's phases in order; its own keys are the only one where it has none. Each has an epoch or more.

    Where the head is fitted at once, that is the first epoch, in which nothing else learns; the phases share the rest.
    """
    only = Phase(
        share=1,
        lr=recipe.lr,
        schedule=recipe.schedule,
        unfrozen_stages=recipe.unfrozen_stages,
        backbone_lr_factor=recipe.backbone_lr_factor,
    )
    found, phases = [], recipe.phases or (only,)
    if at_once := int(recipe.head_fit == "logistic"):
        head = Phase(share=1, lr=recipe.lr, schedule="constant", unfrozen_stages=0)
        found, phases = [Span(head, 1, 1)], phases if recipe.epochs > 1 else ()
    last, share, total = at_once, 0.0, sum(phase.share for phase in phases)
    for left, phase in zip(range(len(phases) - 1, -1, -1), phases, strict=True):
        share += phase.share / total
        until = at_once + round(share * (recipe.epochs - at_once))
        first, last = last + 1, min(max(last + 1, until), recipe.epochs - left)
        found.append(Span(phase, first, last))
    return found


def optimizer(network: Network, recipe: Recipe, phase: Phase) -> torch.optim.Optimizer:
    """For what learns: the head at the phase's rate, the features at `backbone_lr_factor` of it.

    Weight decay on matrices and filters only, not on biases and batch norm (Goyal et al. 2017, arXiv:1706.02677).
    """
    groups = []
    for part, lr in ((network.head, phase.lr), (network.features, phase.backbone_lr_factor * phase.lr)):
        learning = [p for p in part.parameters() if p.requires_grad]
        matrices, others = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
        for params, decay in ((matrices, recipe.weight_decay), (others, 0.0)):
            if params:
                groups.append({"params": params, "lr": lr, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, lr=phase.lr, momentum=recipe.momentum, nesterov=nesterov)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=phase.lr)
    return torch.optim.Adam(groups, lr=phase.lr)


def scheduler(optimizer: torch.optim.Optimizer, phase: Phase, steps: int) -> lr_scheduler.LRScheduler:
    """Stepped per batch. `onecycle` (Smith & Topin 2017, arXiv:1708.07120) cycles the rate only, not the momentum."""
    if phase.schedule == "constant":
        return lr_scheduler.ConstantLR(optimizer, factor=1, total_iters=0)
    if phase.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    peaks = [group["lr"] for group in optimizer.param_groups]
    return lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps + 1, pct_start=0.3, cycle_momentum=False)
