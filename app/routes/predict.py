"""POST /predict."""

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Header, Query
from starlette.types import Receive, Scope, Send

from app import schemas
from app.classifier import Classifier, Prediction
from app.errors import Problem
from app.metrics import Metrics
from app.observability import Trace, trace_of
from app.routes.counted import counted
from app.routes.documented import BINARY, PREDICTION, example, problems
from app.routes.patience import Patience
from app.routes.plain import PlainRoute
from app.routes.upload import read_picture
from app.schemas import PredictionResponse

PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One JPEG, PNG, WebP, BMP, GIF or TIFF, known by its bytes; as a form or as the body itself.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "image/*": BINARY,
            "application/octet-stream": BINARY,
        },
    }
}
_ANSWERS = {200: example(PREDICTION), **problems(400, 413, 415, 422, 429, 500, 503, 504)}
_NUMBER = re.compile("[0-9]{1,9}")
TopK = Annotated[str | None, Query(description="How many labels: 1 to all of them, or `all`; default 5.")]
Timeout = Annotated[
    int | None,
    Header(ge=1, alias="X-Request-Timeout-Ms", description="The picture is dropped if its turn comes later than that."),
]


def route(classifier: Classifier, metrics: Metrics, max_upload_bytes: int, deadline_ms: int) -> PlainRoute:
    """The route, around what it serves."""
    labels = len(classifier.served.manifest.labels)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        top_k = asked(query.get("top_k"), labels)
        headers = dict(scope["headers"])
        patience = Patience.of(headers, deadline_ms)
        with counted(metrics), classifier.admission.admit() as hold:
            async with patience:
                with trace.stage("receive"):
                    picture = await read_picture(headers, receive, max_upload_bytes, hold)
                patience.watch(scope["state"].get("closed"))
                prediction = await classifier.predict(picture, top_k)
        record(prediction, len(picture), trace)
        geometry = prediction.decoded.geometry
        metrics.observe_prediction(*prediction.top_k[0], len(picture), geometry.width * geometry.height)
        body = schemas.prediction_json(prediction, classifier.served)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    def predict(top_k: TopK = None, x_request_timeout_ms: Timeout = None) -> PredictionResponse:
        """Classify one picture."""
        raise NotImplementedError

    return PlainRoute("/predict", answer, predict, methods=["POST"], responses=_ANSWERS, openapi_extra=PICTURE)


def asked(top_k: str | None, labels: int) -> int:
    """The parameter as a number of labels. Raises Problem."""
    if top_k is None or top_k == "all":
        return min(5, labels) if top_k is None else labels
    if not _NUMBER.fullmatch(top_k) or not 1 <= int(top_k) <= labels:
        raise Problem("bad_parameter", f"top_k={top_k[:20]}: this model has {labels} labels; 1 to {labels}, or `all`.")
    return int(top_k)


def record(prediction: Prediction, bytes_in: int, trace: Trace) -> None:
    """What the log and Server-Timing say of an answered picture."""
    answer, geometry = prediction.answer, prediction.decoded.geometry
    label, confidence = prediction.top_k[0]
    trace.stages["decode"] = prediction.decode_seconds
    trace.stages["queue"] = answer.queue_seconds
    trace.stages["inference"] = answer.inference_seconds
    trace.facts.update(
        bytes_in=bytes_in,
        format=prediction.decoded.format,
        width=geometry.width,
        height=geometry.height,
        batch_size=answer.batch_size,
        prediction=label,
        confidence=round(confidence, 4),
    )
