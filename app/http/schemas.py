"""The only place where answers become JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from app.artifact.manifest import Manifest
from app.errors import PROBLEMS, Problem
from app.inference.classifier import Prediction
from app.inference.heatmap import Explanation, Method
from app.inference.loading import Served

_HEATMAP_DECIMALS = 5  # of logits, which INT8 changes in the first


class _Schema(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


class ClassProbability(_Schema):
    """One label; `probability` in 0..1, calibrated by the manifest's temperature."""

    class_: str = Field(alias="class")
    probability: float


class ModelName(_Schema):
    """Which model answered."""

    name: str
    version: int
    variant: str

    @classmethod
    def of(cls, served: Served) -> "ModelName":
        """Of what is served."""
        return cls(name=served.manifest.name, version=served.manifest.version, variant=served.variant)


class PredictionResponse(_Schema):
    """The answer of /predict: `confidence` is the first probability of `top_k`."""

    prediction: str
    confidence: float
    top_k: list[ClassProbability]
    model: ModelName


def prediction_json(prediction: Prediction, served: Served) -> bytes:
    """A PredictionResponse, in a quarter of the time that making and dumping the models takes."""
    answer = _predicted(prediction)
    answer["model"] = _model(served)
    return to_json(answer)


def _predicted(prediction: Prediction) -> dict[str, Any]:
    label, confidence = prediction.top_k[0]
    top_k = [{"class": label, "probability": probability} for label, probability in prediction.top_k]
    return {"prediction": label, "confidence": confidence, "top_k": top_k}


def _model(served: Served) -> dict[str, Any]:
    return {"name": served.manifest.name, "version": served.manifest.version, "variant": served.variant}


class FilePrediction(_Schema):
    """One file's answer, as /predict would have given it."""

    file: str
    prediction: str
    confidence: float
    top_k: list[ClassProbability]


class FileError(_Schema):
    """As the members of a problem document with the same names."""

    code: str
    status: int
    detail: str


class FileProblem(_Schema):
    """Why one file has no answer; the others have theirs."""

    file: str
    error: FileError


class BatchResponse(_Schema):
    """The answer of /predict/batch: one result a file, in the order of the form."""

    results: list[FilePrediction | FileProblem]
    model: ModelName


def file_json(file: str, prediction: Prediction) -> bytes:
    """A FilePrediction."""
    return to_json({"file": file, **_predicted(prediction)})


def file_error_json(file: str, problem: Problem) -> bytes:
    """A FileProblem."""
    status = PROBLEMS[problem.code].status.value
    return to_json({"file": file, "error": {"code": problem.code, "status": status, "detail": problem.detail}})


def batch_json(results: Sequence[bytes], served: Served) -> bytes:
    """A BatchResponse of such results."""
    return b'{"results":[%b],"model":%b}' % (b",".join(results), to_json(_model(served)))


class Size(_Schema):
    """Of the image as displayed (EXIF applied), in pixels."""

    width: int
    height: int


class Box(_Schema):
    """In pixels of the image as displayed; it can stick out of the image."""

    left: float
    top: float
    right: float
    bottom: float


class ExplanationResponse(_Schema):
    """The answer of /explain: the grid `heatmap`, row 0 at the top, lies evenly over `box`, in pixels of the image.

    Its unit is the class's logit: what speaks for the class is positive. `class-activation`: the numbers' mean is the
    logit. `occlusion`: by how much the logit falls with that place covered. `strongest` is the greatest number that any
    class's map has: what a class shows is drawn in parts of it, or a class that nothing speaks for would glow.
    """

    class_: str = Field(alias="class")
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
    answer = ExplanationResponse(
        class_=explained.label,
        probability=explained.probability,
        prediction=prediction.top_k[0][0],
        method=explained.method,
        picture=Size(width=shown.width, height=shown.height),
        box=Box(left=left, top=top, right=right, bottom=bottom),
        heatmap=explained.heatmap.astype(np.float64).round(_HEATMAP_DECIMALS).tolist(),
        strongest=round(explained.strongest, _HEATMAP_DECIMALS),
        model=ModelName.of(served),
    )
    return answer.model_dump_json(by_alias=True).encode()


class Health(_Schema):
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
            model=ModelName.of(served),
            device=served.engine.device,
            selftest_max_probability_difference=served.difference,
            warning=served.warning or None,
            detail=trouble or None,
        )


class ProblemDocument(_Schema):
    """RFC 9457; some codes have further members."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class Serving(_Schema):
    """What of the manifest this process serves; `warning`: why it is not the default variant."""

    variant: str
    device: str
    warning: str | None = None


class ServedManifest(Manifest):
    """The answer of /model: the manifest, and what of it this process serves."""

    serving: Serving


class CardSection(_Schema):
    """A part of the model card: sentences, then a table; without `head` its rows are pairs of a name and a fact."""

    title: str
    text: list[str]
    head: list[str]
    rows: list[list[str]]


class SampleDocument(_Schema):
    """An image to try: `path` below the service's own, and what the checkpoint said of it at the export."""

    path: str
    media_type: str
    prediction: str
    probability: float


def served_manifest(served: Served) -> dict[str, Any]:
    """The manifest and what of it this process serves."""
    serving = {"variant": served.variant, "device": served.engine.device, "warning": served.warning or None}
    return {**served.manifest.model_dump(mode="json"), "serving": serving}
