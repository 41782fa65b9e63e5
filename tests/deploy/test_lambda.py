"""The Lambda function, in a process of its own under AWS's runtime client, answers as the HTTP service does."""

import base64
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from app import settings
from app.memory import Memory
from tests.pictures import encode, picture
from tests.serving import Server, serving

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "deploy/lambda"
DEFAULT = ROOT / "exports/cifar10/1"
PAYLOAD_LIMIT_BYTES = 6 * 2**20  # of Lambda, for a synchronous invocation
Event = dict[str, Any]


def script(name: str) -> ModuleType:
    """A file of deploy/lambda, which is no package: `lambda` is a keyword."""
    spec = importlib.util.spec_from_file_location(f"deploy_lambda_{name}", SOURCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build, local = script("build"), script("local")


def template_settings() -> dict[str, str]:
    """What the template sets of SIGHTGLASS_, without that prefix."""
    return dict(
        re.findall(r'^ +SIGHTGLASS_(\w+): "?([^"\n]+)"?$', (SOURCE / "template.yaml").read_text(), re.MULTILINE)
    )


def test_the_memory_holds_the_largest_picture_that_the_template_lets_in() -> None:
    given = re.search(r"MemorySize: (\d+)", (SOURCE / "template.yaml").read_text())
    assert given
    memory = Memory(int(given[1]) * 2**20 - 105_000_000)  # what the function holds at rest
    assert memory.decoding_bytes >= int(template_settings()["MAX_PIXELS"]) * 22  # bytes a pixel of a WebP


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Lambda unpacks, but for the libraries."""
    folder = tmp_path_factory.mktemp("lambda") / "package"
    folder.mkdir()
    build.copy_ours(folder, DEFAULT)
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the built package has of the lock, as this machine has it installed; and nothing else."""
    for name in ("mangum", *local.CLIENT):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed: pip install -e '.[lambda,dev]'")
    folder: Path = tmp_path_factory.mktemp("libraries")
    here = [each for each in build.needed() if "sys_platform == 'win32'" not in each]
    local.link([each.partition("==")[0] for each in here], folder)
    return folder


@pytest.fixture(scope="module")
def function(package: Path, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One process for all tests of this file that do not need their own."""
    with local.started(package, tmp_path_factory.mktemp("function"), libraries, template_settings()) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(DEFAULT, tmp_path_factory.mktemp("server"), **template_settings()) as running:
        yield running


# --- events as AWS documents them ---------------------------------------------------------------------------------


def http_api(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of an HTTP API, format 2.0."""
    event: Event = local.request(method, path, body, content_type, query)
    return event


def function_url(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of a function URL: format 2.0 with another host, and without a body or a query string where there is none."""
    event = http_api(method, path, body, content_type, query)
    host = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws"
    event["headers"] |= {"host": host, "x-amzn-tls-version": "TLSv1.3"}
    event["requestContext"] |= {"accountId": "anonymous", "domainName": host, "domainPrefix": host.partition(".")[0]}
    if query:
        event["queryStringParameters"] = dict(part.split("=") for part in query.split("&"))
    if not body:
        del event["body"]
        event["isBase64Encoded"] = False
    return event


def rest_api(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of a REST API with binaryMediaTypes */*, format 1.0, in the stage `prod`."""
    host = "f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com"
    headers = {
        "Accept": "*/*",
        "CloudFront-Viewer-Country": "DE",
        "Content-Length": str(len(body)),
        "Content-Type": content_type,
        "Host": host,
        "User-Agent": "curl/8.5.0",
        "Via": "2.0 5f9a1b2c3d.cloudfront.net (CloudFront)",
        "X-Amzn-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        "X-Forwarded-For": "203.0.113.7, 198.51.100.2",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    parameters = dict(part.split("=") for part in query.split("&")) if query else None
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": parameters,
        "multiValueQueryStringParameters": parameters and {name: [value] for name, value in parameters.items()},
        "pathParameters": {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": {
            "resourceId": "1a2b3c",
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "requestTime": "10/Mar/2026:05:16:23 +0000",
            "path": f"/prod{path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "domainPrefix": "f6g7h8i9j0",
            "requestTimeEpoch": 1773119783186,
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "curl/8.5.0", "user": None, "accessKey": None},
            "domainName": host,
            "apiId": "f6g7h8i9j0",
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


KINDS = {"HTTP API": http_api, "function URL": function_url, "REST API": rest_api}


def form(file: bytes, field: str = "file") -> tuple[bytes, str]:
    """A multipart body as curl -F makes it, and its content type."""
    boundary = "------------------------d74496d66958873e"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="cat.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def answer(function: Any, event: Event) -> Event:
    """The function's response, as API Gateway takes it."""
    posted = function.invoke(event)
    assert posted.what == "response", posted.content
    response: Event = posted.content
    return response


def content(response: Event) -> bytes:
    return base64.b64decode(response["body"]) if response["isBase64Encoded"] else response["body"].encode()


JPEG = (ROOT / "cat.jpg").read_bytes()
REQUESTS: dict[str, tuple[Any, ...]] = {
    "a form": ("POST", "/predict", *form(JPEG)),
    "a raw body": ("POST", "/predict", JPEG),
    "a raw body as curl sends it": ("POST", "/predict", JPEG, "application/x-www-form-urlencoded"),
    "a PNG with every byte value": ("POST", "/predict", encode(picture(300, 200)), "image/png"),
    "three labels": ("POST", "/predict", JPEG, "image/jpeg", "top_k=3"),
    "all labels": ("POST", "/predict", *form(JPEG), "top_k=all"),
    "too many labels": ("POST", "/predict", JPEG, "image/jpeg", "top_k=11"),
    "no picture": ("POST", "/predict", b"this is no picture", "image/jpeg"),
    "half a picture": ("POST", "/predict", JPEG[: len(JPEG) // 2]),
    "another field": ("POST", "/predict", *form(JPEG, field="picture")),
    "no end": ("POST", "/predict", form(JPEG)[0][:-60], form(JPEG)[1]),
    "too large a picture": ("POST", "/predict", bytes(4_500_001)),
    "no body": ("POST", "/predict"),
    "an unknown path": ("GET", "/nothing"),
    "another method": ("GET", "/predict"),
    "health": ("GET", "/health"),
    "the manifest": ("GET", "/model"),
    "the documentation": ("GET", "/docs"),
    "a binary file": ("GET", "/static-offline-docs/favicon.png"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_answer_is_that_of_the_http_service_byte_for_byte(function: Any, server: Server, kind: Any) -> None:
    statuses = set()
    for name, request in REQUESTS.items():
        event = kind(*request)
        event["headers"]["X-Request-ID"] = "the-same"
        if "multiValueHeaders" in event:
            event["multiValueHeaders"]["X-Request-ID"] = ["the-same"]
        method, path, body, _, query = (*request, b"", "", "")[:5] if len(request) < 5 else request
        headers = {key: value for key, value in event["headers"].items() if key.lower() != "content-length"}
        expected = httpx2.request(method, f"{server.url}{path}?{query}", content=body, headers=headers)
        response = answer(function, event)
        statuses.add(response["statusCode"])
        assert response["statusCode"] == expected.status_code, name
        assert content(response) == expected.content, name
        for header in ("content-type", "x-request-id", "cache-control", "allow"):
            assert response["headers"].get(header) == expected.headers.get(header), name
    assert statuses == {200, 400, 404, 405, 413, 415, 422}


def test_only_what_is_not_text_is_encoded(function: Any) -> None:
    assert answer(function, http_api("GET", "/static-offline-docs/favicon.png"))["isBase64Encoded"] is True
    for path in ("/health", "/nothing", "/docs", "/metrics"):
        assert answer(function, http_api("GET", path))["isBase64Encoded"] is False


def test_a_trace_and_a_request_id_arrive(function: Any) -> None:
    event = http_api("POST", "/predict", JPEG)
    event["headers"] |= {"x-request-id": "mine-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    response = answer(function, event)
    assert response["headers"]["x-request-id"] == "mine-1"
    assert "inference;dur=" in response["headers"]["server-timing"]
    line = next(line for line in function.log.read_text().splitlines() if '"mine-1"' in line)
    assert json.loads(line)["trace_id"] == "a" * 32


# --- Lambda's limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_the_template_accepts_fits_into_an_event(function: Any, kind: Any) -> None:
    limit = int(template_settings()["MAX_UPLOAD_BYTES"])
    event = kind("POST", "/predict", *form(JPEG.ljust(limit, b"\0")))
    assert len(json.dumps(event)) < PAYLOAD_LIMIT_BYTES - 100_000  # API Gateway's longest headers, twice and escaped
    assert answer(function, event)["statusCode"] == 200


def test_a_picture_above_the_limit_but_within_an_event_is_told_the_limit(function: Any) -> None:
    limit = int(template_settings()["MAX_UPLOAD_BYTES"])
    for body in ((bytes(limit + 1), "image/jpeg"), form(bytes(limit + 1)), form(bytes(limit + 100_000))):
        event = http_api("POST", "/predict", *body)
        assert len(json.dumps(event)) < PAYLOAD_LIMIT_BYTES
        response = answer(function, event)
        assert response["statusCode"] == 413
        assert response["headers"]["content-type"] == "application/problem+json"
        assert json.loads(response["body"])["limit_bytes"] == limit


def test_the_template_has_only_settings_that_are_known_and_ends_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in template_settings().items():
        monkeypatch.setenv(f"SIGHTGLASS_{name}", value)
    template = (SOURCE / "template.yaml").read_text()
    timeout = int(re.findall(r"Timeout: (\d+)", template)[0])
    assert settings.load().deadline_ms / 1000 < timeout < 30
    assert f"python{build.PYTHON}" in template


def test_cloudformation_would_take_the_template() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    if not lint.exists():
        pytest.skip("cfn-lint is not installed: pip install -e '.[dev]'")
    done = subprocess.run([lint, SOURCE / "template.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- events that no gateway makes ---------------------------------------------------------------------------------


def test_a_body_that_is_null_or_left_out_is_an_empty_body(function: Any) -> None:
    for kind in KINDS.values():
        event = kind("POST", "/predict", JPEG)
        for without in (event | {"body": None}, {key: value for key, value in event.items() if key != "body"}):
            response = answer(function, without)
            assert response["statusCode"] == 400
            assert json.loads(response["body"])["code"] == "empty_body"


def test_a_broken_event_fails_alone_and_the_next_is_answered(function: Any) -> None:
    for event in (
        http_api("POST", "/predict", JPEG) | {"body": "no base64 at all"},
        {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
        {},
    ):
        posted = function.invoke(event)
        assert posted.what == "error"
        assert posted.content["errorMessage"]
        assert answer(function, http_api("POST", "/predict", JPEG))["statusCode"] == 200


def test_a_picture_that_came_as_text_is_no_picture(function: Any) -> None:
    """What API Gateway does to a picture whose Content-Type says that it is text: nothing can be made of it again."""
    event = http_api("POST", "/predict", JPEG, "text/plain")
    damaged = event | {"body": JPEG.decode(errors="replace"), "isBase64Encoded": False}
    response = answer(function, damaged)
    assert response["statusCode"] == 415


# --- one process, many events -------------------------------------------------------------------------------------


def test_fifty_invocations_start_the_service_once_and_keep_its_memory(function: Any) -> None:
    events = [
        kind("POST", "/predict", *body)
        for kind in KINDS.values()
        for body in (form(JPEG), (JPEG,), (b"no picture",), (encode(picture(1200, 900), "JPEG"),))
    ]
    expected = [answer(function, event)["body"] for event in events[:2]]
    before, seconds = function.resident_bytes(), []
    for count in range(50):
        started = time.perf_counter()
        response = answer(function, events[count % len(events)])
        seconds.append(time.perf_counter() - started)
        assert response["statusCode"] in (200, 415)
    assert function.resident_bytes() - before < 5e6
    assert statistics.median(seconds) < 0.25  # a start takes longer; measured 3 ms
    assert [answer(function, event)["body"] for event in events[:2]] == expected
    log = function.log.read_text()
    assert log.count('"event": "ready"') == 1
    assert '"event": "stop"' not in log
    assert "Task was destroyed" not in log


def test_a_stage_in_the_path_is_the_root_path(package: Path, libraries: Path, tmp_path: Path) -> None:
    with local.started(package, tmp_path, libraries, {"ROOT_PATH": "/prod"}) as function:
        for event in (http_api("GET", "/prod/nothing"), rest_api("GET", "/nothing")):
            response = answer(function, event)
            host = event["requestContext"]["domainName"]
            assert response["statusCode"] == 404
            assert json.loads(response["body"])["type"] == f"https://{host}/prod/docs/errors#not_found"
        assert answer(function, http_api("POST", "/prod/predict", JPEG))["statusCode"] == 200
        assert answer(function, rest_api("POST", "/predict", JPEG))["statusCode"] == 200


def test_the_deadline_is_the_services_own(package: Path, libraries: Path, tmp_path: Path) -> None:
    large = encode(picture(2400, 1600))
    with local.started(package, tmp_path, libraries, {"DEADLINE_MS": 1}) as function:
        for _ in range(3):
            response = answer(function, http_api("POST", "/predict", large))
            assert response["statusCode"] == 504
            assert json.loads(response["body"])["code"] == "deadline_exceeded"
        assert answer(function, http_api("GET", "/health"))["statusCode"] == 200


def test_nothing_needs_to_be_written(package: Path, libraries: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(package, tmp_path / "package")
    paths = [copy, *copy.rglob("*")]
    # root without its privileges: the permissions then hold for it too
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    if powerless and not shutil.which("setpriv"):
        pytest.skip("root can write everywhere, and there is no setpriv to prevent that")
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert subprocess.run([*powerless, "touch", copy / "new"], capture_output=True, check=False).returncode != 0
        with local.started(copy, tmp_path, libraries, python=[*powerless, sys.executable]) as function:
            assert answer(function, http_api("POST", "/predict", *form(JPEG)))["statusCode"] == 200
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)
    assert {copy, *copy.rglob("*")} == set(paths)


# --- a function that cannot start ---------------------------------------------------------------------------------


def refused(package: Path, libraries: Path, folder: Path, **chosen: object) -> str:
    """What Lambda is told of a function that does not start, which is also in its log."""
    with local.started(package, folder, libraries, chosen) as function:
        posted = function.reported()
        assert function.process.wait(timeout=30) == 1
    assert posted.what == "init/error"
    assert posted.content["stackTrace"] == []
    log = function.log.read_text()
    assert 'File "' not in log  # the client writes the heading of a traceback, but no frame of it
    sentence: str = posted.content["errorMessage"]
    assert sentence in log
    return sentence.removeprefix("Unable to import module 'handler': ")


def test_a_damaged_artifact_is_one_sentence_and_no_function(package: Path, libraries: Path, tmp_path: Path) -> None:
    artifact = shutil.copytree(DEFAULT, tmp_path / "cifar10")
    path = artifact / "model.int8.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    expected = f"{path} is not the file that was exported (size or sha256 differ)"
    assert refused(package, libraries, tmp_path, MODEL=artifact) == expected


def test_a_setting_that_is_none_is_one_sentence_and_no_function(package: Path, libraries: Path, tmp_path: Path) -> None:
    sentence = refused(package, libraries, tmp_path, MAX_UPLOAD="4500000")
    assert sentence.startswith("SIGHTGLASS_MAX_UPLOAD is no setting")


# --- the package --------------------------------------------------------------------------------------------------


def test_the_package_takes_from_the_lock_what_the_function_imports() -> None:
    names = {each.partition("==")[0] for each in build.needed()}
    lock = (ROOT / "requirements/lambda.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9][^=]*)==", lock, re.MULTILINE))
    assert locked > build.UNUSED
    assert locked - build.UNUSED == names
    assert {"mangum", "onnxruntime", "fastapi"} <= names
    assert "torch" not in locked
    assert all("--hash=sha256:" in each for each in build.needed())


def test_the_zip_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    archives = []
    for number in (1, 2):
        folder = tmp_path / str(number) / "lambda"
        for name in sorted(("b/two.py", "a.py", "exports/model.onnx"), reverse=number == 2):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
            path.chmod(0o600 + number * 0o11)
            os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        archives.append(build.pack(folder).read_bytes())
    assert archives[0] == archives[1]


def test_a_package_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    with (artifact / "model.onnx").open("wb") as file:
        file.truncate(build.LIMIT_BYTES)
    monkeypatch.setattr(build, "install", lambda folder: folder.mkdir())
    monkeypatch.setattr(sys, "argv", ["build.py", "--artifact", str(artifact), "--out", str(tmp_path / "lambda")])
    with pytest.raises(SystemExit, match="Lambda takes no package of this size"):
        build.main()
    assert not (tmp_path / "lambda.zip").exists()
