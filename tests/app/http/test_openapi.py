"""The OpenAPI document: valid, complete, true of the running service, and unchanged unless somebody meant it."""

import base64
import difflib
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.errors import PROBLEMS
from app.settings import DEFAULT_MODEL
from tests.app.limits.test_overload import play, service
from tests.app.open_inference.bodies import HEADER, body, encoded_input
from tests.app.openapi import SNAPSHOT, document, text
from tests.app.routes.batches import form
from tests.images import drawing, encode

JSON = ("application/json", "application/problem+json")
EVERYWHERE = {"not_found", "method_not_allowed"}  # of no route in particular
UNHEARD = {"disconnected", "bad_tensor"}  # the latter under /v2 only, which has errors of its own
UNHEARD |= {"malformed_request", "request_timeout", "target_too_long", "headers_too_large"}  # of no route at all
ONLY = {"too_many_files": "post /predict/batch"}
NOT_OF = {"unsupported_image": "post /predict/batch"}  # there it is a file's


IMAGE = encode(drawing(8, 8))


def infer() -> bytes:
    data = [base64.b64encode(IMAGE).decode()]
    return body(encoded_input([IMAGE], data=data))[0]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document()


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def answers(described: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for name, operation in operations(described):
        for status, answer in operation["responses"].items():
            yield name, int(status), answer


def check(value: Any, schema: dict[str, Any], described: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": described["components"]}).validate(value)


def examples(content: dict[str, Any]) -> list[Any]:
    return [each["value"] for each in content.get("examples", {}).values()] or [content["example"]]


def test_the_document_is_the_one_in_the_repository() -> None:
    now, then = text().splitlines(), SNAPSHOT.read_text().splitlines()
    changed = "\n".join(difflib.unified_diff(then, now, "tests/app/openapi.json", "the service", lineterm="", n=5))
    assert not changed, f"if this is meant, `make openapi`:\n{changed}"


def test_the_document_is_valid(described: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(described).validate()  # type: ignore[arg-type]


def test_every_operation_has_a_name_that_makes_a_method_and_says_what_it_does(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(described)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    for name, operation in operations(described):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name


def test_every_answer_has_its_request_id_and_an_example_that_fits_its_schema(described: dict[str, Any]) -> None:
    for name, status, answer in answers(described):
        assert "X-Request-ID" in answer["headers"], (name, status)
        for kind, content in answer.get("content", {}).items():
            if kind in JSON and not name.split()[1].startswith("/v2"):
                for each in examples(content):
                    check(each, content["schema"], described)


def test_every_error_is_a_problem_with_an_example_for_each_code_of_its_status(described: dict[str, Any]) -> None:
    found = set()
    for name, status, answer in answers(described):
        if status < 400 or name.split()[1].startswith(("/health", "/v2")):
            continue
        (content,) = answer["content"].values()
        assert list(answer["content"]) == ["application/problem+json"], (name, status)
        codes = {code for code, kind in PROBLEMS.items() if kind.status == status} - UNHEARD
        codes -= {code for code, only in ONLY.items() if only != name}
        codes -= {code for code, other in NOT_OF.items() if other == name}
        assert set(content["examples"]) == codes, (name, status)
        assert [each["code"] for each in examples(content)] == list(content["examples"])
        assert ("Retry-After" in answer["headers"]) == (status in (429, 503)), (name, status)
        found |= codes
    assert found - EVERYWHERE == set(PROBLEMS) - EVERYWHERE - UNHEARD


def test_the_frameworks_own_validation_error_is_nowhere(described: dict[str, Any]) -> None:
    assert "ValidationError" not in str(described)


def test_the_time_limit_is_a_header(described: dict[str, Any]) -> None:
    places = {each["name"]: each["in"] for each in described["paths"]["/predict"]["post"]["parameters"]}
    assert places == {"top_k": "query", "X-Request-Timeout-Ms": "header"}


def test_server_timing_is_promised_where_it_is_sent(described: dict[str, Any]) -> None:
    kind, batch = form([IMAGE])
    asked: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "/predict": ("/predict", IMAGE, {}),
        "/explain": ("/explain", IMAGE, {}),
        "/predict/batch": ("/predict/batch", batch, {"content_type": kind.decode()}),
        "/v2/models/{model}/infer": ("/v2/models/cifar10-encoded/infer", infer(), {}),
    }

    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            for template, (path, content, headers) in asked.items():
                reply = await running.call("POST", path, content, **headers)
                assert reply.status == 200
                promised = "Server-Timing" in described["paths"][template]["post"]["responses"]["200"]["headers"]
                assert promised == ("server-timing" in reply.headers), path

    play(scene)


def test_an_inference_is_described_by_an_example_that_the_service_answers_so(described: dict[str, Any]) -> None:
    infer = described["paths"]["/v2/models/{model}/infer"]["post"]
    asked, given = infer["requestBody"]["content"], infer["responses"]["200"]
    assert set(asked) == set(given["content"]) == {"application/json", "application/octet-stream"}
    places = {each["name"]: each["in"] for each in infer["parameters"]}
    assert places == dict.fromkeys((HEADER, "X-Request-Timeout-Ms"), "header") | {"model": "path"}
    assert HEADER in given["headers"]
    request, answer = asked["application/json"]["example"], given["content"]["application/json"]
    check(request, asked["application/json"]["schema"], described)

    async def scene() -> None:
        async with service(DEFAULT_MODEL) as running:
            reply = await running.call("POST", "/v2/models/cifar10-encoded/infer", json.dumps(request).encode())
            assert reply.status == 200
            check(reply.body, answer["schema"], described)
            reply.body["outputs"][0]["data"] = answer["example"]["outputs"][0]["data"]
            assert reply.body == answer["example"]

    play(scene)


def test_the_reports_content_is_described(described: dict[str, Any]) -> None:
    content = described["paths"]["/model/report.json"]["get"]["responses"]["200"]["content"]
    assert list(content) == ["application/json"]


def test_what_the_service_answers_is_what_the_document_says(client: httpx2.Client) -> None:
    described = client.get("/openapi.json").json()
    asked = {("get", path): client.get(path) for path in ("/health", "/health/ready", "/health/live", "/model")}
    asked["post", "/predict"] = client.post("/predict", content=encode(drawing()))
    for (method, path), answer in asked.items():
        content = described["paths"][path][method]["responses"][str(answer.status_code)]["content"]
        check(answer.json(), content["application/json"]["schema"], described)


def test_the_examples_of_errors_are_what_the_service_says(client: httpx2.Client) -> None:
    form = {"file": ("a.png", b"a")}
    provoked = {
        "empty_body": client.post("/predict"),
        "bad_field": client.post("/predict", files=[*form.items(), *form.items()]),
        "bad_parameter": client.post("/predict?top_k=11", content=encode(drawing())),
        "unsupported_image": client.post("/predict", content=b"\xfeno image"),
        "unsupported_encoding": client.post("/predict", content=b"x", headers={"Content-Encoding": "br"}),
    }
    given = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]
    for code, answer in provoked.items():
        content = given[str(answer.status_code)]["content"]["application/problem+json"]
        own = {"type", "request_id"}  # of this service and this request
        said, shown = answer.json(), content["examples"][code]["value"]
        assert said.keys() == shown.keys()
        assert {k: v for k, v in said.items() if k not in own} == {k: v for k, v in shown.items() if k not in own}
