"""Optimiser and schedule of a phase of a run: which parameters learn, at which rates, for how many steps."""

import torch
from torch.optim import lr_scheduler

from training.models.heads import Network
from training.recipes.recipe import Phase, Recipe


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
