"""report.json: what the export measured and decided, as it is written and as it is read."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.artifact.doubt import Doubted
from app.artifact.manifest import ArtifactError, Manifest

FILE = "report.json"


class _Part(BaseModel):
    """What an older report lacks has a default; what a newer one has besides is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Accuracy(_Part):
    """`correct` of `n` images, with the Wilson 95 % interval."""

    value: float
    correct: int
    n: int
    low: float
    high: float


class ClassScore(_Part):
    """One label of the evaluation; `confused` is what its images are most often called instead, or empty."""

    label: str
    n: int
    precision: float | None = None
    recall: float
    f1: float | None = None
    confused: str = ""
    confused_n: int = 0


class Bin(_Part):
    """The predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibration(_Part):
    """Whether confidence is what it says, in a word or two, and the error that chance alone gives."""

    verdict: str
    ece_by_chance: float | None = None


class Evaluation(_Part):
    """The checkpoint on the held-out split. `confusion_matrix[i][j]`: images of label i called label j."""

    split: str
    n: int = 0
    accuracy: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    correct: int = 0
    labels: tuple[str, ...] = ()
    majority: float | None = None
    majority_label: str = ""
    macro_f1: float | None = None
    ece: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion_matrix: tuple[tuple[int, ...], ...] = ()
    reliability: tuple[Bin, ...] = ()
    calibration: Calibration | None = None


class Proof(_Part):
    """What val showed of a variant, or images without labels; see training.variants.proof.Proof."""

    images: int = 0
    accuracy: float | None = None
    agreement: float
    difference: float
    row_sum: float
    cpu_ms: dict[int, float]
    judges: int = 0
    differ: int = 0
    lost: int = 0
    won: int = 0


class Verdict(_Part):
    """What the export decided about a variant, in words, and on what grounds; `test` and `doubt`
    are None for a refused one."""

    name: str
    file: str = ""
    proof: Proof | None = None
    golden_difference: float | None = None
    objection: str = ""
    test: Accuracy | None = None
    doubt: Doubted | None = None
    verdict: str


class Temperature(_Part):
    """See training.variants.calibration.Temperature; `value` is the one that is served."""

    fitted: float
    n: int
    log_loss: float
    plain: float
    noise: float
    value: float


class Line(_Part):
    """A confidence below which a person should look, and what lies above it; `accuracy` is None where nothing does."""

    confidence: float
    coverage: float
    accuracy: float | None
    val_accuracy: float | None = None
    val_shown: float | None = None


class Unfamiliar(_Part):
    """A score of the logits above which an image is unfamiliar, and how many familiar ones that calls so."""

    method: str
    threshold: float
    false_alarm_rate: float


class Report(_Part):
    """All fractions are 0..1. `fitted`: what the size of val allowed, a sentence each; an old report has none.
    `reject_below` and `unfamiliar` are None where val was too small to fit them; `history`: rows of metrics.jsonl."""

    name: str = ""
    version: int = 0
    evaluation: Evaluation | None = None
    variants: tuple[Verdict, ...] = ()
    gates: str = ""
    probable_wrong_labels: int = 0
    temperature: Temperature | None = None
    reject_below: Line | None = None
    unfamiliar: Unfamiliar | None = None
    fitted: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()

    def save(self, folder: Path) -> None:
        """Write report.json."""
        (folder / FILE).write_text(json.dumps(self.model_dump(), indent=1) + "\n")


def read(folder: Path, manifest: Manifest) -> Report:
    """The artifact's report; an empty one where it has none. Raises ArtifactError where it is no report."""
    if FILE not in manifest.files:
        return Report()
    try:
        return Report.model_validate_json((folder / FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ArtifactError(f"{folder / FILE} is no report: {where or 'JSON'}: {first['msg']}") from error
