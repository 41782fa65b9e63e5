"""What the service answers, as values. What a newer service adds to its JSON is ignored."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ModelName:
    """Which model answered."""

    name: str
    version: int
    variant: str

    @classmethod
    def of(cls, document: Any) -> Self:
        """Of its JSON; raises KeyError, TypeError or ValueError, as all of these do, for what is not one."""
        return cls(str(document["name"]), int(document["version"]), str(document["variant"]))


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One label; `probability` in 0..1, calibrated."""

    label: str
    probability: float

    @classmethod
    def of(cls, document: Any) -> Self:
        """Of its JSON."""
        return cls(str(document["class"]), float(document["probability"]))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of POST /predict: `confidence` is the first probability of `top_k`, which falls.

    `unfamiliar`: the image is unlike those that the model was fitted to; `accept`: `confidence` reaches the line above
    which answers are right; `set`: labels among which the right one is, as often as the model's manifest promises.
    None where the service cannot say.
    """

    prediction: str
    confidence: float
    top_k: tuple[ClassProbability, ...]
    model: ModelName
    request_id: str
    unfamiliar: bool | None = None
    accept: bool | None = None
    set: tuple[str, ...] | None = None

    @classmethod
    def of(cls, document: Any, request_id: str) -> Self:
        """Of its JSON."""
        return cls(
            prediction=str(document["prediction"]),
            confidence=float(document["confidence"]),
            top_k=tuple(ClassProbability.of(each) for each in document["top_k"]),
            model=ModelName.of(document["model"]),
            request_id=request_id,
            unfamiliar=document.get("unfamiliar"),
            accept=document.get("accept"),
            set=tuple(map(str, document["set"])) if "set" in document else None,
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Of an image as it is displayed, in its pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Box:
    """Where a heat map lies in the image, in the image's pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer of POST /explain: what speaks for `label`, float[h][w] over `box` of the image, row 0 at its top.

    `strongest` is the greatest number of any class's map: draw a map in parts of it.
    """

    label: str
    probability: float
    prediction: str
    method: str
    picture: Size
    box: Box
    heatmap: tuple[tuple[float, ...], ...]
    strongest: float
    model: ModelName
    request_id: str

    @classmethod
    def of(cls, document: Any, request_id: str) -> Self:
        """Of its JSON."""
        size, box = document["picture"], document["box"]
        return cls(
            label=str(document["class"]),
            probability=float(document["probability"]),
            prediction=str(document["prediction"]),
            method=str(document["method"]),
            picture=Size(int(size["width"]), int(size["height"])),
            box=Box(*(float(box[side]) for side in ("left", "top", "right", "bottom"))),
            heatmap=tuple(tuple(float(value) for value in row) for row in document["heatmap"]),
            strongest=float(document["strongest"]),
            model=ModelName.of(document["model"]),
            request_id=request_id,
        )


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of GET /health: `status` is `ok` or `unavailable`, then `detail` says why."""

    status: str
    model: ModelName
    device: str
    selftest_max_probability_difference: float
    warning: str | None
    detail: str | None

    @classmethod
    def of(cls, document: Any, _request_id: str) -> Self:
        """Of its JSON."""
        return cls(
            status=str(document["status"]),
            model=ModelName.of(document["model"]),
            device=str(document["device"]),
            selftest_max_probability_difference=float(document["selftest_max_probability_difference"]),
            warning=document.get("warning"),
            detail=document.get("detail"),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """The answer of GET /model: `manifest` is all of it, as JSON."""

    name: str
    version: int
    labels: tuple[str, ...]
    variant: str
    device: str
    manifest: dict[str, Any]

    @classmethod
    def of(cls, document: Any, _request_id: str) -> Self:
        """Of its JSON."""
        return cls(
            name=str(document["name"]),
            version=int(document["version"]),
            labels=tuple(map(str, document["labels"])),
            variant=str(document["serving"]["variant"]),
            device=str(document["serving"]["device"]),
            manifest=dict(document),
        )
