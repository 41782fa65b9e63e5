"""What OpenAPI says that no signature does: images as bodies, headers, examples, and errors from their table."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from app.errors import PROBLEMS
from app.http.schemas import ProblemDocument

Document = dict[str, Any]

BINARY: Document = {"schema": {"type": "string", "format": "binary"}}  # what Swagger's file picker and generators know
_MODEL = {"name": "cifar10", "version": 1, "variant": "onnx-int8"}
PREDICTION = {
    "prediction": "cat",
    "confidence": 0.99031574,
    "top_k": [{"class": "cat", "probability": 0.99031574}, {"class": "frog", "probability": 0.003212234}],
    "unfamiliar": False,
    "accept": True,
    "set": ["cat"],
    "model": _MODEL,
}
HEALTHY = {
    "status": "ok",
    "model": _MODEL,
    "device": "cpu",
    "selftest_max_probability_difference": 5.96e-08,
    "warning": None,
    "detail": None,
}
UNHEALTHY = {**HEALTHY, "status": "unavailable", "detail": "Stopping."}
BATCH = {
    "results": [
        {"file": "cat.jpg", **{name: value for name, value in PREDICTION.items() if name != "model"}},
        {
            "file": "notes.txt",
            "error": {
                "code": "unsupported_image",
                "status": 415,
                "detail": "The file is no known image type: it is text; accepted: JPEG, PNG, WebP, BMP, GIF, TIFF.",
            },
        },
    ],
    "model": _MODEL,
}
EXPLANATION = {
    "class": "cat",
    "probability": 0.99031574,
    "prediction": "cat",
    "method": "class-activation",
    "picture": {"width": 451, "height": 300},
    "box": {"left": 42.6875, "top": -32.8125, "right": 342.6875, "bottom": 267.1875},
    "heatmap": [[-0.01, 1.0], [2.0, 2.57]],
    "strongest": 2.57,
    "model": _MODEL,
}
MANIFEST = {  # an example of its own: whoever may read this document need not have a key for what is served
    "schema_version": 1,
    "name": "cifar10",
    "version": 1,
    "created": "2026-11-21T04:54:26+00:00",
    "labels": ["cat", "frog"],
    "input": {
        "width": 32,
        "height": 32,
        "channels": 3,
        "crop_fraction": 1.0,
        "interpolation": "bicubic",
        "mean": [0.491, 0.482, 0.446],
        "std": [0.245, 0.243, 0.261],
    },
    "temperature": 0.75,
    "heatmap": [4, 4],
    "heatmap_box": [-3.5, -3.5, 28.5, 28.5],
    "variants": {
        "onnx-int8": {
            "file": "model.int8.onnx",
            "agreement": 0.9936,
            "max_probability_difference": 0.0779,
            "tolerance": 0.065,
            "cpu_ms_per_image": {"1": 0.34, "8": 0.31},
            "score": {"split": "test", "n": 5000, "accuracy": 0.8826, "low": 0.8734, "high": 0.8912},
        }
    },
    "default_variant": "onnx-int8",
    "metrics": {
        "score": {"split": "test", "n": 5000, "accuracy": 0.8828, "low": 0.8736, "high": 0.8914},
        "macro_f1": 0.8826,
        "ece": 0.01,
        "majority": 0.5,
    },
    "machine": {"cpu": "AMD EPYC", "instruction_set": "avx512-vnni"},
    "provenance": {"data": {"source": "photos"}, "best_epoch": 38},
    "files": {"golden.npz": {"sha256": 64 * "0", "size_bytes": 143527}},
    "digest": 64 * "0",
    "serving": {"variant": "onnx-int8", "device": "cpu", "warning": None},
}
CARD = [
    {
        "title": "Model",
        "text": ["An image classifier of 2 classes."],
        "head": [],
        "rows": [["name and version", "cifar10 1"], ["licence", "Not stated by the author."]],
    }
]
METRICS = '# TYPE sightglass_images_total counter\nsightglass_images_total{outcome="predicted"} 1027.0\n'
# By code, what the example says beside what the table has; the title is the detail of the others.
_SAID: dict[str, Document] = {
    "empty_body": {"detail": "Send the image as the body, or as the multipart field `file`."},
    "bad_field": {"detail": "Expected one file in the field `file`, but there are several."},
    "bad_parameter": {"detail": "top_k=11: this model has 10 labels; 1 to 10, or `all`."},
    "upload_too_large": {
        "detail": "12.0 MB; the limit is 10 MB (SIGHTGLASS_MAX_UPLOAD_BYTES).",
        "limit_bytes": 10_000_000,
        "received_bytes": 12_000_000,
    },
    "unsupported_image": {
        "detail": "The file is no known image type; accepted: JPEG, PNG, WebP, BMP, GIF, TIFF.",
        "accepted": ["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF"],
    },
    "unsupported_encoding": {"detail": "Content-Encoding: br: this service takes gzip, deflate or none."},
    "queue_full": {"detail": "128 images are waiting; try again."},
    "unauthorized": {"detail": "Send a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`."},
    "internal_error": {"detail": "The service failed on this request; its log has the details."},
    "not_ready": {"detail": "The engine failed; /health and the log have the details."},
    "deadline_exceeded": {"detail": "No answer within 30000 ms."},
}
_ELSEWHERE = {"disconnected", "bad_tensor"}  # nobody is there to hear of the first; /v2 has errors of its own
_ELSEWHERE |= {"malformed_request", "request_timeout", "target_too_long", "headers_too_large"}  # of no route at all
_SIDE_BY_SIDE = "/predict/batch"  # its files, so that no stage of it has a length; the metrics have each file's
_ONLY = {"too_many_files": _SIDE_BY_SIDE}
_NOT_OF = {"unsupported_image": _SIDE_BY_SIDE}  # there it is a file's
_PROTOCOL_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_OPEN = "/health"  # nobody needs a key to ask that
_SCHEMES: Document = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, where the service has keys."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another place."},
}
_HEADERS = {
    "X-Request-ID": "What the log calls this request: yours, if you sent one of letters, digits, `.`, `_` and `-`.",
    "Server-Timing": "How long each stage took, in ms: receive, decode, queue, inference.",
    "Retry-After": "In how many seconds to come again.",
}
_NUMBERS = {"Retry-After"}
_TAGS = {"pictures": "What is in an image.", "service": "What is served, and how it fares."}


def problems(*statuses: int) -> dict[int | str, Document]:
    """The `responses` of a route that answers these statuses with a problem document, an example for each code."""
    answers: dict[int | str, Document] = {}
    for status in statuses:
        codes = [code for code, kind in PROBLEMS.items() if kind.status == status and code not in _ELSEWHERE]
        content = {
            "schema": {"$ref": "#/components/schemas/ProblemDocument"},
            "examples": {code: {"summary": PROBLEMS[code].title, "value": _example_of(code)} for code in codes},
        }
        answer: Document = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": content},
        }
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            answer["headers"] = {"Retry-After": _header("Retry-After")}
        answers[status] = answer
    return answers


def protocol_errors(*statuses: int) -> dict[int | str, Document]:
    """The `responses` of a route under /v2 that answers these statuses with an error as that protocol has it."""
    content = {"application/json": {"schema": _PROTOCOL_ERROR}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def example(content: Any, kind: str = "application/json") -> Document:
    """What goes into `responses` beside the schema that FastAPI finds."""
    return {"content": {kind: {"example": content}}}


def complete(api: FastAPI) -> None:
    """Put into the application's document what is true of every route, and take out FastAPI's own 422."""
    make = api.openapi

    def openapi() -> Document:
        if not api.openapi_schema:
            _complete(make())
        return make()

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _example_of(code: str) -> Document:
    kind = PROBLEMS[code]
    return {
        "type": f"http://localhost:8000/docs/errors#{code}",
        "title": kind.title,
        "status": kind.status.value,
        "detail": f"{kind.title}.",
        "code": code,
        "request_id": "9f2c5d1e8a7b4c3d9e0f1a2b3c4d5e6f",
        **_SAID.get(code, {}),
    }


def _header(name: str) -> Document:
    return {"$ref": f"#/components/headers/{name}"}


def _complete(document: Document) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
    components["headers"] = {
        name: {"description": text, "schema": {"type": "integer" if name in _NUMBERS else "string"}}
        for name, text in _HEADERS.items()
    }
    components["securitySchemes"] = _SCHEMES
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if not path.startswith(_OPEN):
                operation["security"] = [{}, *({name: []} for name in _SCHEMES)]
                refused = protocol_errors(401) if path.startswith("/v2") else problems(401)
                answers = operation["responses"] | {str(status): answer for status, answer in refused.items()}
                operation["responses"] = dict(sorted(answers.items()))
            # what generators call the method: /health/ready is `health_ready`
            operation["operationId"] = "_".join(re.findall("[A-Za-z0-9]+", path))
            operation.setdefault("tags", ["pictures" if method == "post" else "service"])
            answers = operation["responses"]
            if "HTTPValidationError" in str(answers.get("422", "")):
                del answers["422"]  # a parameter that is wrong is a 400 here
            for status, answer in answers.items():
                for content in answer.get("content", {}).values():
                    elsewhere = [code for code, only in _ONLY.items() if only != path]
                    for code in [*elsewhere, *(code for code, other in _NOT_OF.items() if other == path)]:
                        content.get("examples", {}).pop(code, None)
                headers = answer.setdefault("headers", {})
                headers["X-Request-ID"] = _header("X-Request-ID")
                if status == "200" and "504" in answers and path != _SIDE_BY_SIDE:  # an image went through the pipeline
                    headers["Server-Timing"] = _header("Server-Timing")
    used = {tag for methods in document["paths"].values() for each in methods.values() for tag in each["tags"]}
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items() if name in used]
