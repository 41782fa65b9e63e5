"""The error table: every code has its status, every exception its code, and the page says the same."""

import json
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app import errors
from app.artifact.decoder.decode import ACCEPTED, BrokenImage, ImageError, TooManyPixels, UnsupportedImage
from app.artifact.manifest import ArtifactError
from app.engines import EngineError
from app.errors import PROBLEMS, Problem, as_markdown, problem_of, respond

STATUS = {
    "malformed_request": 400,
    "empty_body": 400,
    "malformed_body": 400,
    "bad_field": 400,
    "bad_parameter": 400,
    "unauthorized": 401,
    "bad_tensor": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "request_timeout": 408,
    "target_too_long": 414,
    "headers_too_large": 431,
    "upload_too_large": 413,
    "too_many_files": 413,
    "unsupported_image": 415,
    "unsupported_encoding": 415,
    "undecodable_image": 422,
    "too_many_pixels": 422,
    "disconnected": 400,
    "queue_full": 429,
    "internal_error": 500,
    "not_ready": 503,
    "deadline_exceeded": 504,
}
REQUEST = Request(
    {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "scheme": "https",
        "server": ("cats.example", 443),
    }
)


def invalid(field: str, value: str) -> RequestValidationError:
    """What FastAPI raises for a query parameter."""
    return RequestValidationError(
        [{"loc": ("query", field), "input": value, "msg": "String should match", "type": "x"}]
    )


# --- the table ----------------------------------------------------------------------------------------------------


def test_every_code_has_the_status_that_the_design_gives_it() -> None:
    assert {code: kind.status.value for code, kind in PROBLEMS.items()} == STATUS


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_code_is_a_stable_word_with_a_title_of_its_own(code: str) -> None:
    kind = PROBLEMS[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert isinstance(kind.status, HTTPStatus)
    assert kind.title
    assert kind.title.rstrip(".") == kind.title
    assert [other.title for other in PROBLEMS.values()].count(kind.title) == 1


# --- exceptions ---------------------------------------------------------------------------------------------------

EXCEPTIONS: dict[str, tuple[Exception, str, str]] = {
    "a problem": (Problem("queue_full", "128 images are waiting."), "queue_full", "128 images are waiting."),
    "unsupported": (UnsupportedImage("the file is HEIC"), "unsupported_image", "The file is HEIC."),
    "too many pixels": (TooManyPixels("400 MP; the limit is 64 MP"), "too_many_pixels", "400 MP; the limit is 64 MP."),
    "broken": (BrokenImage("the GIF cannot be decoded"), "undecodable_image", "The GIF cannot be decoded."),
    "any image error": (ImageError("odd."), "undecodable_image", "Odd."),
    "engine": (EngineError("out of memory"), "not_ready", "The engine failed; /health and the log have the details."),
    "parameter": (invalid("top_k", "-1"), "bad_parameter", "top_k=-1: String should match."),
    "no path": (HTTPException(404), "not_found", "There is nothing here; /docs lists what there is."),
    "method": (HTTPException(405, headers={"Allow": "POST"}), "method_not_allowed", "Use POST here."),
    "method without a hint": (HTTPException(405), "method_not_allowed", "Use another method here."),
}


@pytest.mark.parametrize(("error", "code", "detail"), EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_each_known_exception_is_its_problem_in_a_sentence(error: Exception, code: str, detail: str) -> None:
    problem = problem_of(error)
    assert (problem.code, problem.detail) == (code, detail)


@pytest.mark.parametrize("error", [KeyError("secret"), RuntimeError("/home/me/model"), ArtifactError("secret")])
def test_an_unknown_exception_is_our_bug_and_tells_the_client_nothing(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.code == "internal_error"
    assert str(error) not in problem.detail
    assert not problem.members


def test_what_a_client_can_act_on_comes_along() -> None:
    assert problem_of(UnsupportedImage("x")).members == {"accepted": list(ACCEPTED)}
    assert problem_of(EngineError("x")).headers == {"Retry-After": "2"}
    assert problem_of(HTTPException(405, headers={"Allow": "GET"})).headers == {"Allow": "GET"}


# --- the document -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", PROBLEMS)
def test_the_document_has_the_shape_of_rfc_9457(code: str) -> None:
    response = respond(Problem(code, "Why.", {"Retry-After": "1"}, limit_bytes=7), REQUEST, "id-1")
    assert response.status_code == STATUS[code]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert json.loads(bytes(response.body)) == {
        "type": f"https://cats.example/docs/errors#{code}",
        "title": PROBLEMS[code].title,
        "status": STATUS[code],
        "detail": "Why.",
        "code": code,
        "request_id": "id-1",
        "limit_bytes": 7,
    }


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_has_an_anchor_and_a_row_for_every_code() -> None:
    rows = re.findall(r'^\| <a id="(\w+)"></a>`(\w+)` \| (\d+) \| (.+) \|$', as_markdown(), re.MULTILINE)
    assert rows == [(code, code, str(status), PROBLEMS[code].title) for code, status in STATUS.items()]


def test_the_page_in_the_repository_is_the_one_that_is_served() -> None:
    """If this fails: python -c 'from app.errors import as_markdown; print(as_markdown(), end="")' > docs/errors.md"""
    page = Path(errors.__file__).parents[1] / "docs" / "errors.md"
    assert page.read_text() == as_markdown()
