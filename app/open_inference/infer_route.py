"""POST /v2/models/{model}/infer."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request, Response
from numpy.typing import NDArray
from pydantic import WithJsonSchema

from app.artifact.decoder.decode import Decoded, Geometry, ImageError
from app.http.exchange import Exchange, Terms
from app.http.middleware.request_log import trace_of
from app.http.openapi import BINARY, protocol_errors
from app.http.parameters import Timeout
from app.inference.classifier import Classifier, Prediction
from app.open_inference import openapi, response
from app.open_inference.model_routes import TAGS, model_at, path_of
from app.open_inference.models import Model
from app.open_inference.request import Images, json_length, parse

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
Length = Annotated[
    Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0})] | None,
    Header(alias=_LENGTH, description=_HOW_LONG),
]


def router(classifier: Classifier, terms: Terms, models: Mapping[str, Model]) -> APIRouter:
    """The route, with and without the version, about the protocol's models."""
    routes = APIRouter(prefix="/v2/models/{model}", tags=TAGS)
    documentation: dict[str, Any] = {
        "response_model": Any,
        "responses": _ANSWER | protocol_errors(400, 404, 413, 415, 422, 429, 500, 503, 504),
        "openapi_extra": {"requestBody": _BODY, **path_of(models)},
    }

    @routes.post("/infer", **documentation)
    @routes.post("/versions/{version}/infer", include_in_schema=False, **documentation)
    async def infer(request: Request, json_bytes: Length = None, timeout_ms: Timeout = None) -> Response:
        """Classify images; docs/protocol.md lists requests and clients."""
        model = model_at(request.path_params, models)
        trace_of(request.scope).facts["model"] = model.name
        with Exchange(terms, request, timeout_ms) as exchange:
            content = await exchange.body()
            length, most = json_length(json_bytes, len(content)), classifier.admission.most_of_a_request
            if length <= _QUICK_BYTES:
                asked = parse(model, content, length, most)
            else:
                asked = await classifier.in_thread(length * _JSON_COPIES, parse, model, content, length, most)
            del content
            values = response.count_values(asked, model)
            if len(asked.images) > 1:
                exchange.admit(len(asked.images) - 1)
            predictions = await _predict(classifier, asked.images)
            answers = [prediction.answer for prediction in predictions]
            if values <= _QUICK_VALUES:
                body, json_of_body = response.encode(model, asked, answers)
            else:
                body, json_of_body = await classifier.in_thread(0, response.encode, model, asked, answers)
            exchange.record_together(predictions)
        if json_of_body is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_LENGTH: str(json_of_body)})

    return routes


async def _predict(classifier: Classifier, images: Images) -> list[Prediction]:
    """Each image's, in order; the first that cannot be had ends it for all."""
    if len(images) == 1:
        return [await _one(classifier, images[0])]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = []
            for place, image in enumerate(images):
                tasks.append(group.create_task(_one(classifier, image, f"element {place}: ")))
                if isinstance(image, bytes):
                    await asyncio.sleep(0)  # small files are decoded in the event loop: others go in between
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _one(classifier: Classifier, image: bytes | NDArray[np.uint8], which: str = "") -> Prediction:
    """`which` of several it is, for the message of an error."""
    if isinstance(image, bytes):
        try:
            return await classifier.predict(image, 1)
        except ImageError as error:
            raise type(error)(f"{which}{error}") from error
    result = await classifier.batcher.submit(image)
    height, width, _ = image.shape
    decoded = Decoded(image, Geometry(width, height, 0, 0, width, height), "pixels")
    return classifier.told(result, decoded, 1)
