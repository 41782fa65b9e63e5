"""What the export's temperature does to confidence, by the number of classes and of val's images: `python -m
benchmarks.calibration`, two tables in Markdown (docs/calibration.md), two minutes of CPU.

Nothing is trained: logits are drawn for networks whose right temperature is known. For each seed a val and a test set
are drawn; the checkpoint and the artifact are scored on test. "before" is a pseudo-count for each class, as it was.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from training.metrics.classification import expected_calibration_error, reliability
from training.variants import calibration

CLASSES = (2, 10, 40, 100, 1000)
IMAGES = (20, 80, 200, 1000, 5000)
TEST_IMAGES = 4000


class Network(NamedTuple):
    """Its answers are right `confidence` of the time, which is drawn; it takes itself for `sharpness` times as sure."""

    name: str
    confidence: Callable[[np.random.Generator, int], NDArray[np.float64]]
    sharpness: float
    always_right: bool = False


def _nine_tenths(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    """From 0.5 to 1, 0.9 on average."""
    return 0.5 + 0.5 * generator.beta(2, 0.5, n)


NETWORKS = (
    Network("always right, says 0.99", lambda generator, n: generator.uniform(0.98, 1, n), 1, always_right=True),
    Network("90 % right, says so", _nine_tenths, 1),
    Network("90 % right, logits x 2", _nine_tenths, 2),
    Network("90 % right, logits / 2", _nine_tenths, 0.5),
)


class Drawn(NamedTuple):
    """float32[N, K] and int64[N]."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def first(self, n: int) -> "Drawn":
        return Drawn(self.logits[:n], self.labels[:n])


def draw(network: Network, classes: int, n: int, generator: np.random.Generator) -> Drawn:
    """The label follows the probabilities that the logits have before they are sharpened."""
    sure = np.clip(network.confidence(generator, n), 0.5, 1 - 1e-7)
    called, rows = generator.integers(classes, size=n), np.arange(n)
    logits = generator.normal(0, 1.5, (n, classes))
    logits[rows, called] = -np.inf
    logits += (np.log(1 - sure) - np.log(np.exp(logits).sum(axis=1)))[:, None]
    logits[rows, called] = np.log(sure)
    labels = called
    if not network.always_right:
        labels = (np.exp(logits).cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return Drawn((logits * network.sharpness).astype(np.float32), labels.astype(np.int64))


def pseudo_counts(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature as it was: targets (n + 1) / (n + K) and 1 / (n + K), and no comparison with 1."""
    z, (n, classes) = torch.from_numpy(logits).double(), logits.shape
    right, every = z[torch.arange(n), torch.from_numpy(labels)].mean().item(), z.sum(dim=1).mean().item()
    target = (n * right + every) / (n + classes)

    def loss(log_temperature: float) -> float:
        inverse = float(np.exp(-log_temperature))
        return torch.logsumexp(z * inverse, dim=1).mean().item() - target * inverse

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


class Scores(NamedTuple):
    """On test, with one temperature."""

    ece: float
    log_loss: float


def score(test: Drawn, divisor: float) -> Scores:
    logits = torch.from_numpy(test.logits).double() / divisor
    error = expected_calibration_error(reliability(test.labels, torch.softmax(logits, dim=1).float().numpy()))
    return Scores(error, torch.nn.functional.cross_entropy(logits, torch.from_numpy(test.labels)).item())


class Cell(NamedTuple):
    """Means over seeds."""

    classes: int
    images: int
    network: str
    checkpoint: Scores
    before: Scores
    after: Scores


def cells(
    classes: Iterable[int], images: tuple[int, ...], seeds: int, test_images: int = TEST_IMAGES
) -> Iterator[Cell]:
    """One of every network for every number of classes and of val's images."""
    for k in classes:
        for network in NETWORKS:
            found: dict[int, list[tuple[Scores, Scores, Scores]]] = {n: [] for n in images}
            for seed in range(seeds):
                generator = np.random.default_rng([seed, k])
                test, val = draw(network, k, test_images, generator), draw(network, k, max(images), generator)
                checkpoint = score(test, 1)
                for n in images:
                    logits, labels = val.first(n)
                    before, after = pseudo_counts(logits, labels), calibration.fit(logits, labels).value
                    found[n].append((checkpoint, score(test, before), score(test, after)))
            for n in images:
                yield Cell(k, n, network.name, *(Scores(*mean) for mean in np.mean(found[n], axis=0).tolist()))


def table(rows: list[Cell], measure: str) -> Iterator[str]:
    """A line of Markdown for each number of classes and of images; of each network: checkpoint, before, after."""
    names = list(dict.fromkeys(row.network for row in rows))
    yield f"| classes | val | {' | '.join(names)} |"
    yield f"|{'---|' * (2 + len(names))}"
    for place in dict.fromkeys((row.classes, row.images) for row in rows):
        of = {row.network: row for row in rows if (row.classes, row.images) == place}
        parts = [" / ".join(f"{getattr(scores, measure):.3f}" for scores in of[name][3:]) for name in names]
        yield f"| {place[0]:,} | {place[1]:,} | {' | '.join(parts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    asked = parser.parse_args()
    rows = list(cells(asked.classes, tuple(asked.images), asked.seeds))
    for measure in Scores._fields:
        print(f"\n{measure}: checkpoint / artifact before / artifact after, mean of {asked.seeds} seeds\n")
        print(*table(rows, measure), sep="\n")


if __name__ == "__main__":
    main()
