"""The only place where answers become JSON."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from app.classifier import Prediction
from app.errors import PROBLEMS, Problem
from app.startup import Served


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


def model_card(served: Served) -> dict[str, Any]:
    """The manifest and what of it this process serves."""
    serving = {"variant": served.variant, "device": served.engine.device, "warning": served.warning or None}
    return {**served.manifest.model_dump(mode="json"), "serving": serving}
