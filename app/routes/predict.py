"""POST /predict."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.artifact.image import ImageError
from app.classifier import Classifier, Prediction
from app.errors import Problem
from app.metrics import Metrics
from app.observability import Trace, trace_of
from app.routes.upload import read_picture
from app.schemas import PredictionResponse, ProblemDocument

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY: dict[str, Any] = {
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
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
    }
    for status in (400, 413, 415, 422, 429, 500, 503, 504)
}
TopK = Annotated[str, Query(description="How many labels: 1 to all of them, or `all`; default 5.")]


def router(classifier: Classifier, metrics: Metrics, max_upload_bytes: int, deadline_ms: int) -> APIRouter:
    """The route, around what it serves."""
    routes = APIRouter()

    @routes.post("/predict", responses=_ERRORS, openapi_extra=_BODY)
    async def predict(request: Request, top_k: TopK | None = None) -> PredictionResponse:
        """Classify one picture."""
        trace = trace_of(request)
        wanted = _count(top_k, len(classifier.served.manifest.labels))
        with (
            _counted(metrics),
            classifier.admit() as hold,
            metrics.queued.track_inprogress(),
        ):
            async with _deadline(deadline_ms):
                with trace.stage("receive"):
                    picture = await read_picture(request, max_upload_bytes, hold)
                async with _while_connected(request):
                    prediction = await classifier.predict(picture, wanted)
        _record(prediction, len(picture), trace, metrics)
        return PredictionResponse.of(prediction, classifier.served)

    return routes


def _count(top_k: str | None, labels: int) -> int:
    if top_k is None or top_k == "all":
        return min(5, labels) if top_k is None else labels
    if not top_k.isdecimal() or not 1 <= int(top_k[:9]) <= labels:
        raise Problem("bad_parameter", f"top_k={top_k}: this model has {labels} labels; 1 to {labels}, or `all`.")
    return int(top_k)


_CLOSE = {"Connection": "close"}  # the rest of the upload may still be on its way
_OUTCOMES = {"queue_full": "rejected", "deadline_exceeded": "expired", "disconnected": "disconnected"}


@contextmanager
def _counted(metrics: Metrics) -> Iterator[None]:
    """Each picture exactly once in images_total."""
    outcome = "failed"
    try:
        yield
        outcome = "predicted"
    except ImageError:
        outcome = "invalid"
        raise
    except Problem as problem:
        outcome = _OUTCOMES.get(problem.code, "invalid")
        raise
    finally:
        metrics.images.labels(outcome).inc()


@asynccontextmanager
async def _deadline(deadline_ms: int) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            yield
    except TimeoutError as error:
        raise Problem(
            "deadline_exceeded", f"No answer within {deadline_ms} ms (SIGHTGLASS_DEADLINE_MS).", _CLOSE
        ) from error


@asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """Give up what happens inside when the client leaves, of which nothing else tells a handler; after the body."""
    task, gone = asyncio.current_task(), False
    assert task is not None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise Problem("disconnected", "The client closed the connection before its answer.") from None
    finally:
        watcher.cancel()


def _record(prediction: Prediction, bytes_in: int, trace: Trace, metrics: Metrics) -> None:
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
    metrics.upload_bytes.observe(bytes_in)
    metrics.pixels.observe(geometry.width * geometry.height)
    metrics.count_prediction(label, confidence)
