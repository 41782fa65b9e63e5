"""The manifest: what an artifact folder holds, what it answers and what was proven about it."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.artifact.decoder.decode import InputSpec
from app.artifact.doubt import Doubt, Doubted, Doubts, Fraction, ood_score, score_of
from app.artifact.ranking import Ranked

FILE = "manifest.json"
_GOLDEN = "golden.npz"
SCHEMA_VERSION = 3
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # of a model: it stands in URLs
_PATH = re.compile(r"(?=.{1,200}$)\w[\w.-]*(/\w[\w.-]*)*")


class ArtifactError(Exception):
    """The artifact must not be served; the message is one sentence that says why."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(_Part):
    """One file of the artifact."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]


class Score(_Part):
    """Accuracy on `n` images of a split, with the Wilson 95 % interval."""

    split: str
    n: Annotated[int, Field(ge=1)]
    accuracy: Fraction
    low: Fraction
    high: Fraction


class Variant(_Part):
    """One exported form of the model and its proof, measured through the serving engine."""

    file: str
    agreement: Fraction
    """Share of val images with the eager checkpoint's top-1 label."""
    max_probability_difference: Fraction
    """Largest difference to the eager checkpoint's probabilities on val."""
    tolerance: Annotated[float, Field(gt=0, le=1)]
    """What the self-test allows on the golden images."""
    cpu_ms_per_image: dict[str, Annotated[float, Field(gt=0)]]
    """Batch size -> CPU milliseconds per image on one thread."""
    score: Score | None
    """None where there were no labelled images."""
    doubt: Annotated[Doubted | None, Field(exclude_if=lambda doubt: doubt is None)] = None


class Metrics(_Part):
    """Of the eager checkpoint: `majority` is the accuracy of always answering the most frequent label."""

    score: Score
    macro_f1: Fraction
    ece: Fraction
    majority: Fraction


class Machine(_Part):
    """Where the speeds were measured."""

    cpu: str
    instruction_set: str


class Card(_Part):
    """What the author says of the model, in sentences; empty where nothing was said."""

    purpose: str = ""
    limits: str = ""
    data: str = ""
    licence: str = ""
    samples: tuple[str, ...] = ()
    """Whom each of the golden file's last images is of: those that the author gave, for people to try."""


class Manifest(_Part):
    """Everything the service and a later fine-tuning need to know about the model."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION, strict=True)]
    name: Annotated[str, Field(pattern=NAME)]
    version: Annotated[int, Field(ge=1)]
    created: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    input: InputSpec
    temperature: Annotated[float, Field(gt=0)]
    heatmap: tuple[int, int] | None
    """Height and width of the class activation maps, where the model has them."""
    heatmap_box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of their grid in the model's pixels, each place in the middle of what it sees: with
    padded strides not the image's edges. None: its edges."""
    doubt: Annotated[Doubt | None, Field(exclude_if=lambda doubt: doubt is None)] = None
    """What an answer says besides its probabilities; None of artifacts that are older than that."""
    variants: dict[str, Variant]
    default_variant: str
    metrics: Metrics | None
    """None of a network that was exported as its makers published it: nothing here has measured it."""
    machine: Machine
    provenance: dict[str, Any]
    card: Annotated[Card | None, Field(exclude_if=lambda card: card is None)] = None
    files: dict[str, File]
    digest: str = ""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, File]) -> dict[str, File]:
        for name in files:
            if not _PATH.fullmatch(name) or ".." in PurePosixPath(name).parts:
                raise ValueError(f'the path "{name}" leaves the artifact folder')
        return files

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label occurs twice")
        if self.default_variant not in self.variants:
            raise ValueError(f'the default variant "{self.default_variant}" is not among the variants')
        needed = schema_of(self.input, self.doubt, self.card, measured=self.metrics is not None)
        if self.schema_version < needed:
            new = "doubt" if self.doubt else "a card" if self.card else ""
            what = new or (f'fit "{self.input.fit}"' if self.metrics else "what has no metrics")
            raise ValueError(f"{what} needs schema {needed}")
        if any((variant.score is None) != (self.metrics is None) for variant in self.variants.values()):
            raise ValueError("metrics and the variants' scores are of labelled images: there are both or neither")
        if any((variant.doubt is None) != (self.doubt is None) for variant in self.variants.values()):
            raise ValueError("doubt is of every variant or of none")
        unfamiliar = self.doubt and self.doubt.unfamiliar
        if unfamiliar and unfamiliar.score != score_of(self.heatmap):
            raise ValueError(f'the score "{unfamiliar.score}" is not what this network gives')
        if not len(self.input.mean) == len(self.input.std) == self.input.channels:
            raise ValueError("mean and std need one value per channel")
        return self

    @property
    def contract(self) -> str:
        """Labels, input and doubt as canonical JSON: what golden.npz repeats, so that none can be edited alone."""
        parts = {"labels": list(self.labels), "input": self.input.model_dump(mode="json")}
        if self.doubt:
            parts["doubt"] = self.doubt.model_dump(mode="json")
        return _canonical(parts)

    def doubts(
        self,
        probabilities: NDArray[np.float32],
        logits: NDArray[np.float32],
        heatmap: NDArray[np.float32] | None,
        ranked: Ranked,
    ) -> Doubts:
        """What is said of one image besides: float32[K], float32[K, h, w], its first labels. Empty without doubt."""
        if self.doubt is None:
            return {}
        return self.doubt.of(probabilities, ood_score(logits, heatmap), self.labels, ranked)

    def save(self, folder: Path) -> None:
        """Write manifest.json with its digest."""
        content = self.model_dump(mode="json", exclude={"digest"})
        content["digest"] = _digest(content)
        (folder / FILE).write_text(_text(content), encoding="utf-8")


def schema_of(spec: InputSpec, doubt: Doubt | None = None, card: Card | None = None, *, measured: bool = True) -> int:
    """The oldest schema that can say this: a service that is older than `fit`, than doubt, than a card, or than
    networks whose accuracy nothing has `measured`, goes on serving the others."""
    if doubt or card or not measured:
        return 3
    return 1 if spec.fit == "crop" else 2


def load(folder: Path) -> Manifest:
    """Read and check an artifact: schema, digest, then every file's presence and sha256.

    Raises ArtifactError with one sentence.
    """
    manifest = _read(folder)
    for needed in (_GOLDEN, *(variant.file for variant in manifest.variants.values())):
        if needed not in manifest.files:
            raise ArtifactError(f"{folder / FILE} gives no checksum for {needed}")
    for name, file in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{folder}: {name} is missing")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(f"{folder}: {name} leads out of the artifact folder")
        if fingerprint(path) != file:
            raise ArtifactError(f"{path} is not the file that was exported (size or sha256 differ)")
    return manifest


def _read(folder: Path) -> Manifest:
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f'"{folder}" is no artifact: it has no {FILE}') from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise ArtifactError(f"{path} is no manifest: it has no schema_version")
    if content["schema_version"] > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema {content['schema_version']}, this Sightglass reads up to {SCHEMA_VERSION}: update it"
        )
    try:
        manifest = Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise ArtifactError(f"{path} is invalid: {where or 'manifest'}: {first['msg']}") from error
    if _digest({key: value for key, value in content.items() if key != "digest"}) != manifest.digest:
        raise ArtifactError(f"{path} was edited after the export (its digest differs)")
    if path.read_text("utf-8") != _text(content):
        raise ArtifactError(f"{path} was edited after the export (its layout differs)")
    return manifest


def fingerprint(path: Path) -> File:
    """Checksum and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(sha256=digest, size_bytes=path.stat().st_size)


def _text(content: dict[str, Any]) -> str:
    """The one layout of a manifest on disk."""
    return json.dumps(content, indent=2) + "\n"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()
