"""What an export rests on: the checkpoint, the images that calibrate and judge its variants, what is known of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from app.artifact.doubt import Doubt
from app.artifact.golden import Golden
from app.artifact.manifest import Card, Metrics
from app.engines import Runs
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.runs.trained_model import TrainedModel
from training.variants.gates import Verdict


@dataclass(frozen=True, kw_only=True)
class Evidence(ABC):
    """`train` calibrates INT8, on `val` every variant is compared with the checkpoint, and on `judges`, other images of
    train, too where val is small. `data` reads their files. Without `images` the report has neither images nor file
    names.

    What takes labels to know is empty or None here; `labelled` says of val whether anybody knows what is right.
    """

    labelled: ClassVar[bool] = False
    checkpoint: TrainedModel
    golden: Golden
    data: Data
    train: Pixels
    val: Pixels
    judges: Pixels | None
    images: bool
    card: Card | None = None
    split: str = ""
    doubt: Doubt | None = None

    @property
    def metrics(self) -> Metrics | None:
        """Of the checkpoint, on `split`."""
        return None

    @property
    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Of the manifest."""

    @property
    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """What the export says after its verdicts: (name, sentence)."""

    @property
    def recorded(self) -> dict[str, list[str]]:
        """Split -> the first 16 hex digits of its files' sha256 sums, of what the model did not learn from."""
        return {}

    @property
    def shown(self) -> str:
        """What of these images is in the report."""
        return "with images" if self.images else "without images"

    def fitted(self, kept: Mapping[str, Runs]) -> Self:  # noqa: ARG002  # without labels there is nothing to fit
        """With what is fitted for all variants that are `kept`."""
        return self

    def measured(self, row: Verdict, engine: Runs) -> Verdict:  # noqa: ARG002  # nor to measure
        """With what a kept variant does on `split`, where nothing is decided any more."""
        return row
