"""POST /predict."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl

from fastapi import Header, Query
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app import schemas
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


Timeout = Annotated[
    int,
    Header(ge=1, description="How long the client waits; a picture whose turn comes later is dropped."),
]
_TIMEOUT_HEADER = b"x-request-timeout-ms"


class PlainRoute(APIRoute):
    """A route that is documented like any other and called as bare ASGI.

    FastAPI's own way to a handler and back costs half of what the default network does (docs/performance.md).
    """

    def __init__(self, path: str, called: ASGIApp, documented: Any, **documentation: Any) -> None:
        """`documented` has the parameters, the answer and the docstring for OpenAPI; it is never called."""
        super().__init__(path, documented, **documentation)

        async def with_route(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = self
            await called(scope, receive, send)

        self.app = with_route


def route(classifier: Classifier, metrics: Metrics, max_upload_bytes: int, deadline_ms: int) -> APIRoute:
    """The route, around what it serves."""
    labels = len(classifier.served.manifest.labels)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        top_k = _count(query.get("top_k"), labels)
        patience_ms = _patience_ms(scope, deadline_ms)
        with _counted(metrics), classifier.admit() as hold:
            async with _Patience(patience_ms) as patience:
                with trace.stage("receive"):
                    picture = await read_picture(scope, receive, max_upload_bytes, hold)
                patience.watch(receive)
                prediction = await classifier.predict(picture, top_k)
        _record(prediction, len(picture), trace, metrics)
        body = schemas.prediction_json(prediction, classifier.served)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def predict(top_k: TopK | None = None, x_request_timeout_ms: Timeout | None = None) -> PredictionResponse:
        """Classify one picture."""
        raise NotImplementedError

    return PlainRoute("/predict", answer, predict, methods=["POST"], responses=_ERRORS, openapi_extra=_BODY)


def _count(top_k: str | None, labels: int) -> int:
    if top_k is None or top_k == "all":
        return min(5, labels) if top_k is None else labels
    if not top_k.isdecimal() or not 1 <= int(top_k[:9]) <= labels:
        raise Problem("bad_parameter", f"top_k={top_k}: this model has {labels} labels; 1 to {labels}, or `all`.")
    return int(top_k)


def _patience_ms(scope: Scope, deadline_ms: int) -> int:
    """The deadline, or what the client says it will wait if that is less."""
    asked: bytes | None = dict(scope["headers"]).get(_TIMEOUT_HEADER)
    if asked is None:
        return deadline_ms
    if not asked.isdigit() or not (patience := int(asked[:9])):
        raise Problem("bad_parameter", f"X-Request-Timeout-Ms: {asked.decode('latin-1')}: whole milliseconds, from 1.")
    return min(deadline_ms, patience)


_CLOSE = {"Connection": "close"}  # the rest of the upload may still be on its way
_OUTCOMES = {"queue_full": "rejected", "deadline_exceeded": "expired", "disconnected": "disconnected"}


@contextmanager
def _counted(metrics: Metrics) -> Iterator[None]:
    """Each picture exactly once in images_total, and in queue_images meanwhile."""
    outcome = "failed"
    metrics.queued.inc()
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
        metrics.queued.dec()
        metrics.images[outcome].inc()


class _Patience:
    """Gives up what happens inside when its time is over or its client has left; a handler hears of neither.

    What it interrupts ends with a Problem: deadline_exceeded or disconnected.
    """

    def __init__(self, deadline_ms: int) -> None:
        self._deadline_ms = deadline_ms
        self._over = ""
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled = task, task.cancelling()
        late = self._deadline_ms / 1000
        self._timer = asyncio.get_running_loop().call_later(late, self._give_up, "deadline_exceeded")
        return self

    def watch(self, receive: Receive) -> None:
        """End when the client leaves, too; for when the whole body has been received."""

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._give_up("disconnected")

        self._watcher = asyncio.create_task(until_gone())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._over and self._task.uncancel() <= self._cancelled and kind is asyncio.CancelledError:
            raise self._problem() from None

    def _give_up(self, why: str) -> None:
        if not self._over:
            self._over = why
            self._task.cancel()

    def _problem(self) -> Problem:
        if self._over == "disconnected":
            return Problem("disconnected", "The client closed the connection before its answer.")
        headers = {} if self._watcher else _CLOSE
        return Problem("deadline_exceeded", f"No answer within {self._deadline_ms} ms.", headers)


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
