"""Images/s of the training loop against bare forward, backward and optimiser step on cached tensors.

Rounds of the two alternate, so that other work on the machine meets both; the table has their medians, and the share
is the median of the rounds' own. `cpu` is the same share in CPU seconds, which other work hardly moves. The loop does
what a run does: augmentation, mixing, normalising, averaged weights, counting. The bare steps get normalised batches
and label numbers that were made before. 2 minutes on 2 idle cores.
"""

import argparse
import os
import platform
import statistics
import time

import numpy as np
import torch
from torch.nn import functional as F

from app import machine
from benchmarks.table import warn_of
from training.data.dataset import Sample
from training.data.pixels import Pixels
from training.learning.learner import Learner
from training.models.servable import Normalise
from training.recipes import recipe
from training.recipes.recipe import Recipe
from training.runs.trained_model import untrained
from training.variants.golden import draw

CLASSES = 10
EVERYTHING = (
    *("rotation=15", "resized_crop=0.5", "hue=0.05", "trivial_augment=true", "noise=0.02", "erasing=0.25"),
    *("cutout=8", "mixup=0.2", "cutmix=1.0", "balance=sampling"),
)


def main() -> None:
    wanted = _arguments()
    warn_of(os.getloadavg()[0])
    threads = (
        "OMP_NUM_THREADS " + os.environ["OMP_NUM_THREADS"]
        if os.environ.get("OMP_NUM_THREADS")
        else machine.cores().reason
    )
    print(f"{machine.cpu_model()}, {threads}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{wanted.rounds} rounds of {wanted.steps} steps; images/s")
    print(
        f"{'recipe':<38} {'precision':>9} {'loop':>7} {'bare':>7} {'share':>6} {'lowest':>7} {'highest':>7} {'cpu':>6}"
    )
    for name in wanted.recipes:
        for what, overrides in (("", ()), (" + everything", EVERYTHING)):
            measure(name + what, recipe.load(name, overrides), wanted.rounds, wanted.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=["residual-cnn-onecycle"], choices=recipe.names())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=12, help="of each round, of the loop and bare alike")
    return parser.parse_args()


def measure(name: str, chosen: Recipe, rounds: int, steps: int) -> None:
    """Print one line."""
    images = chosen.batch_size * steps
    pixels = _pixels(images, chosen.input_size)
    # as many epochs as the schedule will be stepped for
    loop, bare = (_learner(chosen.model_copy(update={"epochs": rounds + 1}), images) for _ in range(2))
    batches = _cached(bare, pixels)
    loop.epoch(pixels, 0, lambda _: None)
    _steps(bare, batches)
    found = []
    for number in range(1, rounds + 1):
        started = time.process_time()
        looped = loop.epoch(pixels, number, lambda _: None).images_per_second
        between = time.process_time()
        stepped = _steps(bare, batches)
        found.append((looped, stepped, looped / stepped, (time.process_time() - between) / (between - started)))
    looped, stepped, share, cpu = (statistics.median(column) for column in zip(*found, strict=True))
    shares = [row[2] for row in found]
    print(
        f"{name:<38} {loop.precision:>9} {looped:7.0f} {stepped:7.0f} {share:6.2f}"
        f" {min(shares):7.2f} {max(shares):7.2f} {cpu:6.2f}",
        flush=True,
    )


def _pixels(n: int, size: int) -> Pixels:
    generator = np.random.default_rng(0)
    array = np.stack([np.asarray(draw(size, size, generator)) for _ in range(n)])
    labels = np.arange(n, dtype=np.int64) % CLASSES
    samples = tuple(Sample(str(number), int(label)) for number, label in enumerate(labels))
    return Pixels(samples, ("",) * n, labels, (), (size, size), array.__getitem__)


def _learner(chosen: Recipe, images: int) -> Learner:
    return Learner(
        untrained(chosen, CLASSES),
        Normalise((0.5,) * chosen.channels, (0.25,) * chosen.channels),
        chosen,
        images,
        "cpu",
    )


def _cached(learner: Learner, pixels: Pixels) -> list[tuple[torch.Tensor, torch.Tensor]]:
    n = learner.recipe.batch_size
    chunks = [np.arange(start, start + n) for start in range(0, len(pixels), n)]
    return [
        (learner.normalise(torch.from_numpy(pixels.take(chunk))), torch.from_numpy(pixels.labels[chunk]))
        for chunk in chunks
    ]


def _steps(learner: Learner, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Images/s of what training cannot do without."""
    learner.network.train()
    started = time.perf_counter()
    for x, labels in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=learner.precision == "bfloat16"):
            logits = learner.network(x)
        loss = F.cross_entropy(logits.float(), labels)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
    return sum(len(labels) for _, labels in batches) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
