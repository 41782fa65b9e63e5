"""Every error a client can meet: one table from code to status and title, one shape (RFC 9457)."""

from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.artifact.decoder import decode
from app.artifact.decoder.confined import DecoderLost
from app.engines import EngineError


class Kind(NamedTuple):
    """A row of the table; `title` never changes for a code."""

    status: HTTPStatus
    title: str


PROBLEMS = {
    "malformed_request": Kind(HTTPStatus.BAD_REQUEST, "The request is not HTTP/1.1 as this server reads it"),
    "empty_body": Kind(HTTPStatus.BAD_REQUEST, "The request has no body"),
    "malformed_body": Kind(HTTPStatus.BAD_REQUEST, "The body cannot be read"),
    "bad_field": Kind(HTTPStatus.BAD_REQUEST, "The form does not hold the expected files"),
    "bad_parameter": Kind(HTTPStatus.BAD_REQUEST, "A parameter has no such value"),
    "unauthorized": Kind(HTTPStatus.UNAUTHORIZED, "The request has no key that is known here"),
    "bad_tensor": Kind(HTTPStatus.BAD_REQUEST, "The inference request does not fit the model"),
    "not_found": Kind(HTTPStatus.NOT_FOUND, "There is nothing at this path"),
    "method_not_allowed": Kind(HTTPStatus.METHOD_NOT_ALLOWED, "This path takes another method"),
    "not_acceptable": Kind(HTTPStatus.NOT_ACCEPTABLE, "No form of the answer is one that the client accepts"),
    "request_timeout": Kind(HTTPStatus.REQUEST_TIMEOUT, "The request's headers did not come in time"),
    "target_too_long": Kind(HTTPStatus.REQUEST_URI_TOO_LONG, "The request's target has too many bytes"),
    "headers_too_large": Kind(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers have too many bytes or lines"
    ),
    "upload_too_large": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The upload has too many bytes"),
    "too_many_files": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form has too many files"),
    "unsupported_image": Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The file is not an accepted image type"),
    "unsupported_encoding": Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is compressed in a way that is not read"),
    "undecodable_image": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The image cannot be decoded"),
    "too_many_pixels": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The image has too many pixels"),
    "disconnected": Kind(HTTPStatus.BAD_REQUEST, "The client closed the connection before its answer"),
    "queue_full": Kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many images are waiting"),
    "internal_error": Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Something is wrong with the service"),
    "not_ready": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The service cannot answer now"),
    "deadline_exceeded": Kind(HTTPStatus.GATEWAY_TIMEOUT, "The answer took too long"),
}

_EVERYWHERE = ("HEAD", "OPTIONS")  # see app.http.middleware.methods
CLOSE = {"Connection": "close"}  # with a refusal, where the rest of the body may still be on its way


class Problem(Exception):
    """Raised anywhere in a request; `members` become extension members of the problem document."""

    def __init__(self, code: str, detail: str, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def problem_of(error: Exception) -> Problem:
    """The problem that stands for an exception of the artifact, the engines or Starlette; our bug for any other."""
    match error:
        case Problem():
            return error
        case decode.UnsupportedImage():
            return Problem("unsupported_image", _sentence(error), accepted=list(decode.ACCEPTED))
        case decode.TooManyPixels():
            return Problem("too_many_pixels", _sentence(error))
        case decode.ImageError():
            return Problem("undecodable_image", _sentence(error))
        case DecoderLost():
            detail = "No process could be started to decode this kind of file; the log has the reason."
            return Problem("not_ready", detail, {"Retry-After": "2"})
        case EngineError():
            return Problem(
                "not_ready", "The engine failed; /health and the log have the details.", {"Retry-After": "2"}
            )
        case RequestValidationError():
            first = error.errors()[0]
            return Problem("bad_parameter", f"{first['loc'][-1]}={str(first['input'])[:40]}: {first['msg']}.")
        case HTTPException(status_code=404):
            return Problem("not_found", "There is nothing here; /docs lists what there is.")
        case HTTPException(status_code=405):
            allowed = dict(error.headers or {})
            own = [method for method in allowed.get("Allow", "").split(", ") if method not in ("", *_EVERYWHERE)]
            return Problem("method_not_allowed", f"Use {' or '.join(own) or 'another method'} here.", allowed)
        case _:
            return Problem("internal_error", "The service failed on this request; its log has the details.")


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def respond(problem: Problem, request: Request, request_id: str) -> JSONResponse:
    """The problem as application/problem+json; `type` links to the list that this service has at /docs/errors.

    Under /v2 as the Open Inference Protocol has it.
    """
    kind = PROBLEMS[problem.code]
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path == "/v2" or path.startswith("/v2/"):
        return JSONResponse({"error": problem.detail}, kind.status, headers=problem.headers)
    content = {
        "type": f"{request.base_url}docs/errors#{problem.code}",
        "title": kind.title,
        "status": kind.status.value,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
        **problem.members,
    }
    return JSONResponse(content, kind.status, headers=problem.headers, media_type="application/problem+json")


def as_markdown() -> str:
    """The table as a page, for /docs/errors and docs/errors.md."""
    rows = [f'| <a id="{code}"></a>`{code}` | {kind.status.value} | {kind.title} |' for code, kind in PROBLEMS.items()]
    head = (
        "# Errors\n\nEvery error is `application/problem+json` (RFC 9457) with a stable `code` and the `request_id`;"
        ' under `/v2` it is `{"error": detail}`, as that protocol has it.\n'
    )
    return "\n".join([head, "| code | status | meaning |", "|---|---|---|", *rows]) + "\n"
