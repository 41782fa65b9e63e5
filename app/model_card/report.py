"""What the export measured, as report.json tells it; every part may be missing from an older one."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.artifact.manifest import ArtifactError, Manifest

FILE = "report.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)  # what else the file holds is for other readers


class ClassScore(_Part):
    """One label of the evaluation; `confused` is what its images are most often called instead, or empty."""

    label: str
    n: int
    recall: float
    confused: str = ""
    confused_n: int = 0


class Calibration(_Part):
    """Whether confidence is what it says, in a word or two."""

    verdict: str


class Evaluation(_Part):
    """The checkpoint on the held-out split."""

    split: str
    majority_label: str = ""
    per_class: tuple[ClassScore, ...] = ()
    calibration: Calibration | None = None


class Line(_Part):
    """A confidence below which a person should look, and what lies above it; `accuracy` is None where nothing does."""

    confidence: float
    coverage: float
    accuracy: float | None


class Unfamiliar(_Part):
    """A score of the logits above which an image is unfamiliar, and how many familiar ones that calls so."""

    method: str
    threshold: float
    false_alarm_rate: float


class Verdict(_Part):
    """What the export decided about a variant."""

    name: str
    verdict: str


class Report(_Part):
    """All fractions are 0..1. `fitted`: what the size of val allowed, a sentence each; an old report has none."""

    evaluation: Evaluation | None = None
    variants: tuple[Verdict, ...] = ()
    gates: str = ""
    probable_wrong_labels: int = 0
    reject_below: Line | None = None
    unfamiliar: Unfamiliar | None = None
    fitted: tuple[str, ...] = ()


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
