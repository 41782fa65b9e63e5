"""The training loop: one epoch at a time, on batches of pixels, with everything a resume needs in one state."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.console.progress import Report
from training.data.loader import batches, epoch_seed
from training.data.pixels import Pixels
from training.errors import Stopped
from training.learning import device as devices
from training.learning import optim
from training.models import freezing
from training.models.heads import Network
from training.models.servable import Normalise
from training.recipes.recipe import Recipe
from training.recipes.spans import Span, spans
from training.threads import use_cores


@dataclass(frozen=True)
class EpochStats:
    """Of one epoch over the train split: mean loss (of an instant head that of its cross-validation, and `lr` is 0),
    images per second, share of time spent waiting for data."""

    loss: float
    images_per_second: float
    waiting: float
    lr: float


class Learner:
    """The network being trained, with its averaged copy, optimiser and schedule."""

    def __init__(self, network: Network, normalise: Normalise, recipe: Recipe, images: int, device: str) -> None:
        """`images`: size of the train split, from which the schedule gets its number of steps."""
        self.recipe = recipe
        use_cores()
        self.device = torch.device(device)
        self.precision = recipe.precision
        if recipe.precision == "auto":
            self.precision = devices.precision(device, network)
        self.normalise = normalise.to(self.device)
        layout = devices.memory_format(device)
        self.network: Network = network.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        averages = recipe.ema_decay or recipe.head_share
        self.averaged = copy.deepcopy(self.network).requires_grad_(False) if averages else None
        # the network as it was once an instant head was fitted, where it has a share, and its losses on val by image
        self.untuned: dict[str, Tensor] = {}
        self.untuned_losses: Tensor | None = None
        self.steps_per_epoch = max(1, images // recipe.batch_size)
        self.steps = 0
        self.spans = spans(recipe)
        self.enter(0)

    @property
    def validated(self) -> nn.Module:
        """What is validated, and saved where it is the best so far: the averaged weights where the recipe averages,
        over time or with those of the head alone."""
        network: nn.Module = self.network if self.averaged is None else self.averaged
        return network

    @property
    def span(self) -> Span:
        """The phase that is learnt in, with its epochs."""
        return self.spans[self.span_number]

    def enter(self, number: int) -> None:
        """Begin a phase, with an optimiser and a schedule of its own."""
        self.span_number, span = number, self.spans[number]
        self.network.zero_grad(set_to_none=True)  # or what is frozen now would count when gradients are clipped
        freezing.freeze(self.network, span.phase.unfrozen_stages)
        self.optimizer = optim.optimizer(self.network, self.recipe, span.phase)
        self.scheduler = optim.scheduler(self.optimizer, span.phase, self.steps_per_epoch * span.epochs)

    def state_dict(self) -> dict[str, Any]:
        """What a resume at an epoch's start needs, bit-identical on a CPU; no random state, see `epoch`."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else {},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "steps": self.steps,
            "phase": self.span_number,
            "head": self.untuned,
            "head_losses": self.untuned_losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The counterpart of `state_dict`."""
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.enter(state["phase"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.steps = state["steps"]
        self.untuned = state.get("head", {})  # runs of old have neither
        self.untuned_losses = state.get("head_losses")

    def epoch(
        self, pixels: Pixels, number: int, progress: Report, stopping: Callable[[], bool] = lambda: False
    ) -> EpochStats:
        """Train one epoch; order, augmentation and dropout follow from the recipe's seed and the epoch's number alone.

        Raises Stopped after the current batch once `stopping()` is true.
        """
        if number > self.span.last:
            self.enter(self.span_number + 1)
        if self.span.instant_head:
            return self._fit_head(pixels, progress, stopping)
        torch.manual_seed(epoch_seed(self.recipe.seed, number))
        self._train_mode()
        total, waited, done = torch.zeros((), device=self.device), 0.0, 0
        lr = self.optimizer.param_groups[0]["lr"]
        started = waiting = time.perf_counter()
        for x, targets in batches(pixels, self.recipe, number, self.steps_per_epoch, self._ahead(pixels)):
            waited += time.perf_counter() - waiting
            total += self._step(x, targets) * len(targets)
            done += len(targets)
            progress(done)
            if stopping():
                raise Stopped
            waiting = time.perf_counter()
        seconds = time.perf_counter() - started
        if self.averaged is not None and self.untuned:
            # a mean of fine-tuned weights and those they started from: WiSE-FT (Wortsman et al. 2021, arXiv:2109.01903)
            self.averaged.load_state_dict(self.untuned)
            average(self.averaged, self.network, self.recipe.head_share)
        return EpochStats(total.item() / done, done / seconds, waited / seconds, lr)

    @torch.no_grad()
    def _fit_head(self, pixels: Pixels, progress: Report, stopping: Callable[[], bool]) -> EpochStats:
        """The epoch of an instant head: every image through the features once, whose head is then solved for."""
        from training.learning import linear_head  # only here: scikit-learn takes 1.5 s

        self.network.eval()
        started, parts, done = time.perf_counter(), [], 0
        for batch in pixels.batches(devices.EVALUATED_BYTES[self.device.type]):
            x = devices.laid_out(self.normalise(torch.from_numpy(batch).to(self.device)))
            parts.append(self.network.embed(x).float().cpu().numpy())
            done += len(batch)
            progress(done)
            if stopping():
                raise Stopped
        rate = done / (time.perf_counter() - started)
        head = self.network.head
        assert isinstance(head, nn.Linear)
        balanced = self.recipe.balance != "none"
        fitted = linear_head.fit(np.concatenate(parts), pixels.labels, head.out_features, balanced, self.recipe.seed)
        head.weight.copy_(torch.from_numpy(fitted.weight))
        head.bias.copy_(torch.from_numpy(fitted.bias))
        if self.averaged is not None:
            self.averaged.load_state_dict(self.network.state_dict())
        if self.recipe.head_share:
            self.untuned = copy.deepcopy(self.network.state_dict())
        return EpochStats(fitted.log_loss, rate, 0.0, 0.0)

    def images_per_second(self, pixels: Pixels) -> float:
        """Of this phase, by the fastest of a few batches, each from its images to its step; the weights move."""
        self._train_mode()
        seconds, n = [], 0
        started = time.perf_counter()
        for x, targets in batches(pixels, self.recipe, 0, min(4, self.steps_per_epoch), False):
            self._step(x, targets).item()
            seconds.append(time.perf_counter() - started)
            started, n = time.perf_counter(), len(targets)
        return n / min(seconds)

    def _ahead(self, pixels: Pixels) -> bool:
        return self.device.type != "cpu" or not pixels.in_memory

    def _train_mode(self) -> None:
        unfrozen = self.span.phase.unfrozen_stages
        freezing.train_mode(self.network, unfrozen, self.recipe.freeze_batch_norm)

    def _step(self, x: Tensor, targets: Tensor) -> Tensor:
        """float32[N, H, W, 3] 0..255 and float32[N, K] -> the batch's mean loss, after one optimiser step."""
        x, targets = devices.moved(x, self.device), devices.moved(targets, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.network(devices.laid_out(self.normalise(x)))
        # The targets hold class weights, mixing and smoothing, the weights first, so that a mixed image is weighed as
        # what it is of: training/data/loader.py.
        loss = F.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.steps += 1
        if self.averaged is not None and self.recipe.ema_decay:
            # the warm-up of Polyak averaging: early on, 0.999 would mostly remember the random start
            decay = min(self.recipe.ema_decay, (1 + self.steps) / (10 + self.steps))
            average(self.averaged, self.network, decay)
        return loss.detach()


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """averaged = decay * averaged + (1 - decay) * network; counters are copied."""
    for old, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)
