"""What OpenAPI says of an inference request and its answer; the protocol's own rules are wider in places."""

from typing import Any

from app.open_inference.models import ENCODED, PIXELS

Document = dict[str, Any]

_NAME: Document = {"type": "string"}
_SHAPE: Document = {"type": "array", "items": {"type": "integer"}}


def _object(required: list[str], **properties: Document) -> Document:
    return {"type": "object", "required": required, "properties": properties}


def _list(items: Document, **bounds: int) -> Document:
    return {"type": "array", "items": items, **bounds}


_INPUT = _object(
    ["name", "datatype", "shape"],
    name={"type": "string", "enum": [PIXELS, ENCODED]},
    datatype={"type": "string", "enum": ["UINT8", "BYTES"]},
    shape=_SHAPE,
    data={"type": "array", "items": {}, "description": "Numbers from 0 to 255, nested or flat; or files in base64."},
    parameters=_object([], binary_data_size={"type": "integer"}),
)
_WANTED = _object(
    ["name"],
    name={"type": "string", "enum": ["probabilities", "logits", "heatmap"]},
    parameters=_object([], binary_data={"type": "boolean"}, classification={"type": "integer", "minimum": 0}),
)
REQUEST = _object(
    ["inputs"],
    id={"type": "string"},
    inputs=_list(_INPUT, minItems=1, maxItems=1),
    outputs=_list(_WANTED),
    parameters=_object([], binary_data_output={"type": "boolean"}),
)
_OUTPUT = _object(
    ["name", "datatype", "shape"],
    name=_NAME,
    datatype={"type": "string", "enum": ["FP32", "BYTES"]},
    shape=_SHAPE,
    data={"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "string"}]}},
    parameters=_object([], binary_data_size={"type": "integer"}),
)
ANSWER = _object(
    ["model_name", "model_version", "outputs"],
    id={"type": "string"},
    model_name=_NAME,
    model_version={"type": "string"},
    outputs=_list(_OUTPUT),
)

_GIF = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"  # one pixel
REQUEST_EXAMPLE = {
    "id": "1",
    "inputs": [{"name": ENCODED, "datatype": "BYTES", "shape": [1], "data": [_GIF]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}],
}
ANSWER_EXAMPLE = {
    "id": "1",
    "model_name": "cifar10-encoded",
    "model_version": "1",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "BYTES",
            "shape": [1, 2],
            "data": ["0.4281772:0:airplane", "0.15181112:2:bird"],
        }
    ],
}
