"""The only place where answers become JSON. What is built for every image is a TypedDict: its own dict is dumped in a
quarter of the time that making and dumping a model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_json
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from app.artifact.doubt import Doubts
from app.artifact.manifest import Manifest
from app.errors import PROBLEMS, Problem
from app.inference.classifier import Prediction
from app.inference.heatmap import Explanation, Method
from app.inference.loading import Served

_HEATMAP_DECIMALS = 5  # of logits, which INT8 changes in the first

_OfClass = TypedDict("_OfClass", {"class": str})  # a key that no class body can have


class ClassProbability(_OfClass):
    """One label; `probability` in 0..1, calibrated by the manifest's temperature."""

    probability: float


class ModelName(TypedDict):
    """Which model answered."""

    name: str
    version: int
    variant: str


class PredictionResponse(Doubts):
    """The answer of /predict: `confidence` is the first probability of `top_k`. `unfamiliar`, `accept` and `set` are
    there where the model's export had images enough to fit them, see `doubt` of /model."""

    prediction: str
    confidence: float
    top_k: list[ClassProbability]
    model: ModelName


class FilePrediction(Doubts):
    """One file's answer, as /predict would have given it."""

    file: str
    prediction: str
    confidence: float
    top_k: list[ClassProbability]


class FileError(TypedDict):
    """As the members of a problem document with the same names."""

    code: str
    status: int
    detail: str


class FileProblem(TypedDict):
    """Why one file has no answer; the others have theirs."""

    file: str
    error: FileError


class BatchResponse(TypedDict):
    """The answer of /predict/batch: one result a file, in the order of the form."""

    results: list[FilePrediction | FileProblem]
    model: ModelName


def model_name(served: Served) -> ModelName:
    """Of what is served."""
    return {"name": served.manifest.name, "version": served.manifest.version, "variant": served.variant}


def top_k_of(prediction: Prediction) -> list[ClassProbability]:
    """The labels in their order."""
    return [{"class": label, "probability": probability} for label, probability in prediction.top_k]


def prediction_json(prediction: Prediction, served: Served) -> bytes:
    """A PredictionResponse."""
    label, confidence = prediction.top_k[0]
    answer: PredictionResponse = {
        "prediction": label,
        "confidence": confidence,
        "top_k": top_k_of(prediction),
        **prediction.doubts,
        "model": model_name(served),
    }
    return to_json(answer)


def file_json(file: str, prediction: Prediction) -> bytes:
    """A FilePrediction."""
    label, confidence = prediction.top_k[0]
    answer: FilePrediction = {
        "file": file,
        "prediction": label,
        "confidence": confidence,
        "top_k": top_k_of(prediction),
        **prediction.doubts,
    }
    return to_json(answer)


def file_error_json(file: str, problem: Problem) -> bytes:
    """A FileProblem."""
    status = PROBLEMS[problem.code].status.value
    answer: FileProblem = {
        "file": file,
        "error": {"code": problem.code, "status": status, "detail": problem.detail},
    }
    return to_json(answer)


def batch_json(results: Sequence[bytes], served: Served) -> bytes:
    """A BatchResponse of such results."""
    return b'{"results":[%b],"model":%b}' % (b",".join(results), to_json(model_name(served)))


class Size(TypedDict):
    """Of the image as displayed (EXIF applied), in pixels."""

    width: int
    height: int


class Box(TypedDict):
    """In pixels of the image as displayed; it can stick out of the image."""

    left: float
    top: float
    right: float
    bottom: float


class ExplanationResponse(_OfClass):
    """The answer of /explain: the grid `heatmap`, row 0 at the top, lies evenly over `box`, in pixels of the image.

    Its unit is the class's logit: what speaks for the class is positive. `class-activation`: the numbers' mean is the
    logit. `occlusion`: by how much the logit falls with that place covered. `strongest` is the greatest number that any
    class's map has: what a class shows is drawn in parts of it, or a class that nothing speaks for would glow.
    """

    probability: float
    prediction: str
    method: Method
    picture: Size
    box: Box
    heatmap: list[list[float]]
    strongest: float
    model: ModelName


def explanation_json(explained: Explanation, prediction: Prediction, served: Served) -> bytes:
    """An ExplanationResponse."""
    shown, (left, top, right, bottom) = explained.geometry, explained.box
    answer: ExplanationResponse = {
        "class": explained.label,
        "probability": explained.probability,
        "prediction": prediction.top_k[0][0],
        "method": explained.method,
        "picture": {"width": shown.width, "height": shown.height},
        "box": {"left": left, "top": top, "right": right, "bottom": bottom},
        "heatmap": explained.heatmap.astype(np.float64).round(_HEATMAP_DECIMALS).tolist(),
        "strongest": round(explained.strongest, _HEATMAP_DECIMALS),
        "model": model_name(served),
    }
    return to_json(answer, inf_nan_mode="null")


class Health(BaseModel):
    """`status` is `ok` or `unavailable`, then `detail` says why; `warning`: why it is not the default variant."""

    status: str
    model: ModelName
    device: str
    selftest_max_probability_difference: float
    warning: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, served: Served, trouble: str) -> "Health":
        """`trouble` is empty while all is well."""
        return cls(
            status="unavailable" if trouble else "ok",
            model=model_name(served),
            device=served.engine.device,
            selftest_max_probability_difference=served.difference,
            warning=served.warning or None,
            detail=trouble or None,
        )


class ProblemDocument(BaseModel):
    """RFC 9457; some codes have further members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class Serving(BaseModel):
    """What of the manifest this process serves; `warning`: why it is not the default variant."""

    variant: str
    device: str
    warning: str | None = None


class ServedManifest(Manifest):
    """The answer of /model: the manifest, and what of it this process serves."""

    serving: Serving


class CardSection(BaseModel):
    """A part of the model card: sentences, then a table; without `head` its rows are pairs of a name and a fact."""

    title: str
    text: list[str]
    head: list[str]
    rows: list[list[str]]


class SampleDocument(BaseModel):
    """An image to try: `path` below the service's own, and what the checkpoint said of it at the export; whom it is of,
    empty of a drawing."""

    path: str
    media_type: str
    prediction: str
    probability: float
    credit: str


def served_manifest(served: Served) -> dict[str, Any]:
    """The manifest and what of it this process serves."""
    serving = {"variant": served.variant, "device": served.engine.device, "warning": served.warning or None}
    return {**served.manifest.model_dump(mode="json"), "serving": serving}
