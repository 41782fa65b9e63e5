"""The worst mistakes as a contact sheet: what is shown of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.metrics import label_errors
from training.metrics.label_errors import Mistake
from training.report.thumbnails import Thumbnail, heatmaps, thumbnails
from training.variants.labelled import Labelled

IMAGES = 200


@dataclass(frozen=True)
class Card:
    """One image of the sheet; `heat` is a data: URI or empty."""

    mistake: Mistake
    thumbnail: Thumbnail
    heat: str


@dataclass(frozen=True)
class Sheet:
    """`suspects` come first and are not repeated in `others`; both lie in the order they are shown in."""

    suspects: tuple[Card, ...]
    others: tuple[Card, ...]
    has_heat: bool

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The confusions that have an image here."""
        return sorted({card.mistake.pair for card in (*self.suspects, *self.others)})


def make(found: Sequence[Mistake], evidence: Labelled) -> Sheet:
    """Read, shrink and explain the chosen ones; nothing at all where the report holds no images."""
    chosen = label_errors.choose(found, IMAGES) if evidence.images else []
    small = thumbnails([each.path for each in chosen], evidence.data.read, evidence.run.input)
    indices, classes = [each.index for each in chosen], [each.predicted for each in chosen]
    heat = heatmaps(evidence.checkpoint, evidence.held_out, indices, classes)
    cards = [
        Card(mistake, image, heat[place] if heat else "")
        for place, (mistake, image) in enumerate(zip(chosen, small, strict=True))
    ]
    by_index = {card.mistake.index: card for card in cards}
    first = tuple(by_index[each.index] for each in label_errors.suspects(chosen))
    return Sheet(first, tuple(card for card in cards if not card.mistake.is_suspect), bool(heat))
