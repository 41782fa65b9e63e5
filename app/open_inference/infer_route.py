"""POST /v2/models/{model}/infer."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated, Any

import numpy as np
from fastapi import Header
from numpy.typing import NDArray
from starlette.types import Message, Receive, Scope, Send

from app.artifact.decoder.decode import Decoded, Geometry, ImageError
from app.http.answered import observe, record_together, whole
from app.http.asgi_route import PlainRoute
from app.http.exchange import Counted
from app.http.middleware import trace_of
from app.http.openapi import BINARY, protocol_errors
from app.http.parameters import Timeout
from app.http.upload import read_body
from app.inference.classifier import Classifier, Prediction, rank
from app.limits.deadline import Patience
from app.open_inference import openapi, response
from app.open_inference.model_routes import TAGS, model_at, path_of
from app.open_inference.models import Model
from app.open_inference.request import HEADER_LENGTH, InferRequest, json_length, parse
from app.telemetry.metrics import Metrics

_PATH = "/v2/models/{model}"
_QUICK_BYTES, _QUICK_VALUES = 16_384, 1024  # of JSON, and of the answer: what takes less than 1 ms
_LENGTH = "Inference-Header-Content-Length"
_JSON_COPIES = 3  # at most: its text twice, and what has been read of it
_BODY = {
    "required": True,
    "description": "JSON, then the input's bytes if they are not in it.",
    "content": {
        "application/json": {"schema": openapi.REQUEST, "example": openapi.REQUEST_EXAMPLE},
        "application/octet-stream": BINARY,
    },
}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON; then, where they were asked for as bytes, the outputs.",
        "content": {
            "application/json": {"schema": openapi.ANSWER, "example": openapi.ANSWER_EXAMPLE},
            "application/octet-stream": BINARY,
        },
        "headers": {_LENGTH: {"description": "How many bytes are JSON, if not all.", "schema": {"type": "integer"}}},
    }
}
_HOW_LONG = "How many bytes of the body are JSON; of a body that is the input itself 0. Without it all of them are."
Length = Annotated[int | None, Header(ge=0, alias=_LENGTH, description=_HOW_LONG)]


class Infer:
    """The inference of the protocol's models; `routes` are its two paths."""

    def __init__(
        self,
        classifier: Classifier,
        metrics: Metrics,
        models: Mapping[str, Model],
        max_upload_bytes: int,
        deadline_ms: int,
    ) -> None:
        self._classifier = classifier
        self._metrics = metrics
        self._models = models
        self._max_upload_bytes = max_upload_bytes
        self._deadline_ms = deadline_ms

    def routes(self) -> list[PlainRoute]:
        """With and without the version."""

        def infer(inference_header_content_length: Length = None, x_request_timeout_ms: Timeout = None) -> Any:
            """Classify images; docs/protocol.md lists requests and clients."""
            raise NotImplementedError

        documentation: dict[str, Any] = {
            "methods": ["POST"],
            "tags": TAGS,
            "responses": _ANSWER | protocol_errors(400, 404, 413, 415, 422, 429, 500, 503, 504),
            "openapi_extra": {"requestBody": _BODY, **path_of(self._models)},
        }
        versioned = f"{_PATH}/versions/{{version}}/infer"
        return [
            PlainRoute(f"{_PATH}/infer", self._answer, infer, **documentation),
            PlainRoute(versioned, self._answer, infer, include_in_schema=False, **documentation),
        ]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope)
        model = model_at(scope["path_params"], self._models)
        trace.facts["model"] = model.name
        headers = dict(scope["headers"])
        patience = Patience.of(headers, self._deadline_ms)
        with ExitStack() as places:
            counted = places.enter_context(Counted(self._metrics, arriving=True))
            upload = places.enter_context(self._classifier.admission.upload(patience.end_for_others))
            with patience:
                with trace.stage("receive"):
                    content = await read_body(headers, receive, self._max_upload_bytes, upload.hold)
                upload.complete()
                counted.arrived()
                patience.watch(scope["state"].get("closed"))
                bytes_in = len(content)
                request = await self._parse(model, headers, content)
                del content
                values = response.count_values(request, model)
                if others := len(request.images) - 1:
                    places.enter_context(Counted(self._metrics, others))
                    places.enter_context(self._classifier.admission.admit(others))
                predictions = await self._predict(request)
                text, json_bytes = await self._encode(model, request, predictions, values)
        record_together(predictions, bytes_in, trace)
        for prediction in predictions:
            observe(prediction, bytes_in // len(predictions), self._metrics)
        for message in _messages(text, json_bytes):
            await send(message)

    async def _parse(self, model: Model, headers: Mapping[bytes, bytes], content: bytes) -> InferRequest:
        """Checked to the last byte, and that its answer will not be too much."""
        length, most = json_length(headers, len(content)), self._classifier.admission.most_of_a_request
        if length <= _QUICK_BYTES:
            return parse(model, content, length, most)
        return await self._classifier.in_thread(length * _JSON_COPIES, parse, model, content, length, most)

    async def _predict(self, request: InferRequest) -> list[Prediction]:
        """Each image's, in order; the first that cannot be had ends it for all."""
        if len(request.images) == 1:
            return [await self._one(request.images[0], 0, 1)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for place, image in enumerate(request.images):
                    tasks.append(group.create_task(self._one(image, place, len(request.images))))
                    if isinstance(image, bytes):
                        await asyncio.sleep(0)  # small files are decoded in the event loop: others go in between
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, image: bytes | NDArray[np.uint8], place: int, images: int) -> Prediction:
        if isinstance(image, bytes):
            try:
                return await self._classifier.predict(image, 1)
            except ImageError as error:
                if images == 1:
                    raise
                raise type(error)(f"element {place}: {error}") from error
        result = await self._classifier.batcher.submit(image)
        height, width, _ = image.shape
        whole = Decoded(image, Geometry(width, height, 0, 0, width, height), "pixels")
        return Prediction(rank(result.probabilities, self._classifier.served.manifest.labels, 1), whole, result, 0.0)

    async def _encode(
        self, model: Model, request: InferRequest, predictions: Sequence[Prediction], values: int
    ) -> tuple[bytes, int | None]:
        answers = [prediction.answer for prediction in predictions]
        if values <= _QUICK_VALUES:
            return response.encode(model, request, answers)
        return await self._classifier.in_thread(0, response.encode, model, request, answers)


def _messages(text: bytes, json_bytes: int | None) -> tuple[Message, Message]:
    if json_bytes is None:
        return whole(text, b"application/json")
    return whole(text, b"application/octet-stream", (HEADER_LENGTH, b"%d" % json_bytes))
