"""The wrong answers of one set of predictions, and those among them whose label is probably what is wrong."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.dataset import Sample
from training.metrics.classification import Floats

SUSPECT_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Mistake:
    """An image whose most probable label is not its own. `index`: its place in the split; `label` and `predicted`:
    indices of labels; `confidence`: the probability of `predicted`; `loss`: -log of the probability of `label`;
    `contradiction`: the probability of `predicted` that makes it a suspect."""

    index: int
    path: str
    label: int
    predicted: int
    confidence: float
    loss: float
    contradiction: float

    @property
    def pair(self) -> tuple[int, int]:
        """What was taken for what."""
        return self.label, self.predicted

    @property
    def is_suspect(self) -> bool:
        """Confident disagreement: a label that the model contradicts with more than 0.9 is worth a look first."""
        return self.contradiction > SUSPECT_CONFIDENCE


def find(samples: Sequence[Sample], probabilities: Floats, temperature: float = 1.0) -> list[Mistake]:
    """Every mistake, the largest loss first; `probabilities` float32[N, K], of this `temperature`, belong to `samples`.

    A contradiction is as strong as the network itself made it: a temperature above 1, which wrong labels in val ask
    for, does not hide the wrong labels. One below 1 may show more.
    """
    found = []
    before = unsoftened(probabilities, temperature).max(axis=1)
    for index, (sample, row) in enumerate(zip(samples, probabilities, strict=True)):
        predicted = int(row.argmax())
        if predicted != sample.label:
            least = np.finfo(np.float32).tiny  # a probability of 0 would give a loss that no table can show
            loss = -float(np.log(max(row[sample.label], least)))
            confidence, contradiction = float(row[predicted]), float(before[index])
            found.append(Mistake(index, sample.path, sample.label, predicted, confidence, loss, contradiction))
    return sorted(found, key=lambda each: (-each.loss, each.index))


def unsoftened(probabilities: Floats, temperature: float) -> Floats:
    """float32[N, K] of this temperature -> what they were before it, where it has softened them."""
    if temperature <= 1:
        return probabilities
    powers = probabilities.astype(np.float64) ** temperature
    before: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return before


def sure(temperature: float) -> str:
    """By which probability a mistake is a suspect, in words."""
    return f"p > {SUSPECT_CONFIDENCE:g}" + (" before the temperature" if temperature > 1 else "")


def suspects(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """Probable wrong labels, the most confident contradiction first."""
    return sorted((each for each in mistakes if each.is_suspect), key=lambda each: (-each.contradiction, each.index))


def choose(mistakes: Sequence[Mistake], limit: int) -> list[Mistake]:
    """At most `limit` of them to look at, the largest loss first.

    A third are the suspects, a third the largest losses, the rest goes round the pairs of labels, the frequent ones
    first: so that a matrix of confusions has images for its cells.
    """
    chosen: dict[int, Mistake] = {each.index: each for each in suspects(mistakes)[: limit // 3]}
    for each in mistakes:
        if len(chosen) >= 2 * limit // 3:
            break
        chosen[each.index] = each
    frequency, seen = Counter(each.pair for each in mistakes), Counter[tuple[int, int]]()
    turns = []  # the worst of each pair, then the second of each, and so on; frequent pairs first
    for each in mistakes:
        turns.append((seen[each.pair], -frequency[each.pair], each.index, each))
        seen[each.pair] += 1
    for *_, each in sorted(turns, key=lambda turn: turn[:-1]):
        if len(chosen) >= limit:
            break
        chosen[each.index] = each
    return [each for each in mistakes if each.index in chosen]


def as_csv(mistakes: Sequence[Mistake], labels: Sequence[str]) -> str:
    """Columns path, label, suggestion and the suggestion's probability, before a temperature that softens it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "suggestion", "p"])
    for each in mistakes:
        writer.writerow([each.path, labels[each.label], labels[each.predicted], f"{each.contradiction:.6f}"])
    return text.getvalue()
