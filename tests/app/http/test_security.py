"""Keys, other sites' pages and security headers, on a real process; and settings that would leave a door open."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.app.limits.test_overload import play, service
from tests.images import drawing, encode
from tests.serving import Server, metrics, problem, serving

ALICE, BOB = "alice-0123456789abcdef", "bob:fedcba9876543210"
PAGE = "https://page.example"
IMAGE = encode(drawing(32, 32), "JPEG")


@pytest.fixture(scope="module")
def guarded(digits_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Alice's key is in the environment, Bob's in a file; one other site's pages may call."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"# who may call\n\nbob:{BOB}\n")
    chosen: dict[str, object] = {"API_KEYS": f"alice:{ALICE}", "API_KEYS_FILE": folder / "keys", "LOG_FORMAT": "json"}
    chosen |= {"CORS_ORIGINS": f"{PAGE}, http://localhost:5173", "SECURITY_HEADERS": "on", "MAX_UPLOAD_BYTES": 100_000}
    with serving(digits_artifact, folder, **chosen) as running:
        yield running


@pytest.fixture
def caller(guarded: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=guarded.url) as client:
        yield client


CALLS = [("POST", "/predict"), ("POST", "/predict/batch"), ("GET", "/model"), ("GET", "/metrics")]
CALLS += [
    ("GET", "/openapi.json/"),
    ("GET", "/nothing"),
    ("GET", "/predict"),
    ("OPTIONS", "/predict"),
    ("GET", "/healthy"),
]
CALLS += [
    ("GET", "/page"),
    ("GET", "//"),
    ("POST", "/health/../predict"),
    ("GET", "/docsy"),
    ("POST", "/predict/"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_a_key_there_is_a_problem_and_with_one_an_answer(caller: httpx2.Client, method: str, path: str) -> None:
    target = f"{caller.base_url}".rstrip("/") + path
    refused = caller.request(method, target, content=IMAGE)
    body = problem(refused, 401, "unauthorized")
    assert "X-API-Key" in str(body["detail"])
    assert refused.headers["www-authenticate"] == 'Bearer realm="sightglass"'
    assert caller.request(method, target, content=IMAGE, headers={"X-API-Key": ALICE}).status_code != 401


OPEN = ["/", "/health", "/health/live", "/health/ready", "/page/page.js", "/page/samples/1", "/docs", "/docs/errors"]
OPEN += ["/openapi.json", "/static-offline-docs/swagger-ui-bundle.js", "/static-offline-docs/swagger-ui.css"]


@pytest.mark.parametrize("path", OPEN)
def test_probes_the_page_and_the_apis_description_are_open(caller: httpx2.Client, path: str) -> None:
    assert caller.get(path).status_code == 200


def test_the_description_does_not_tell_what_needs_a_key(caller: httpx2.Client) -> None:
    described = caller.get("/openapi.json").text
    manifest = caller.get("/model", headers={"X-API-Key": ALICE}).json()
    assert manifest["digest"] not in described
    assert str(manifest["temperature"]) not in described


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": ALICE},
        {"x-api-key": BOB},
        {"Authorization": f"Bearer {ALICE}"},
        {"Authorization": f"bearer  {BOB}"},
        {"Authorization": "Basic YTpi", "X-API-Key": ALICE},  # the first is a proxy's
    ],
)
def test_either_header_takes_either_key(caller: httpx2.Client, headers: dict[str, str]) -> None:
    assert caller.post("/predict", content=IMAGE, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": ALICE[:-1]},
        {"X-API-Key": ALICE + "x"},
        {"X-API-Key": ALICE.upper()},
        {"X-API-Key": f"alice:{ALICE}"},
        {"Authorization": ALICE},
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": f"Bearer {ALICE} {BOB}"},
        {"X-API-Key": "é" * 20},
    ],
)
def test_what_is_nearly_a_key_is_none(caller: httpx2.Client, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    refused = caller.post("/predict", content=IMAGE, headers=raw)
    assert problem(refused, 401, "unauthorized")["detail"] == "This key is not known."
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_names_are_counted_and_logged_and_keys_are_nowhere(digits_artifact: Path, tmp_path: Path) -> None:
    chosen: dict[str, object] = {"API_KEYS": f"alice:{ALICE},bob:{BOB}", "LOG_FORMAT": "json"}
    with serving(digits_artifact, tmp_path, **chosen) as server:
        for _ in range(3):
            httpx2.post(f"{server.url}/predict", content=IMAGE, headers={"X-API-Key": ALICE})
        httpx2.post(f"{server.url}/predict", content=IMAGE)
        key = {"Authorization": f"Bearer {ALICE}"}
        metrics(server.url)  # waits until what was counted has been written
        said = [httpx2.get(f"{server.url}/{path}", headers=key).text for path in ("metrics", "model", "openapi.json")]
    assert 'sightglass_authenticated_requests_total{key="alice"} 3.0' in said[0]
    assert 'sightglass_authenticated_requests_total{key="bob"} 0.0' in said[0]
    assert 'sightglass_problems_total{code="unauthorized"} 2.0' in said[0]
    lines = [json.loads(line) for line in server.lines()]
    named = [line.get("key") for line in lines if line.get("route") == "/predict"]
    assert named == ["alice"] * 3
    refused = [line for line in lines if line.get("status") == 401 and line["method"] == "POST"]
    assert [line["code"] for line in refused] == ["unauthorized"]
    assert refused[0]["request_id"]
    for text in [*said, server.log.read_text()]:
        assert ALICE not in text
        assert BOB not in text


def test_the_start_of_the_log_says_who_may_call(digits_artifact: Path, guarded: Server, tmp_path: Path) -> None:
    (start,) = (line for line in map(json.loads, guarded.lines()) if line["event"] == "start")
    where = guarded.url.removeprefix("http://")
    assert f"open to: {where} with the key of alice, bob; pages of {PAGE}, http://localhost:5173" in start["message"]
    with serving(digits_artifact, tmp_path) as open_to_all:
        where = open_to_all.url.removeprefix("http://")
        assert f"open to: {where} without a key" in open_to_all.log.read_text()
        assert "API_KEY" not in open_to_all.log.read_text()


def test_who_sets_the_key_of_a_client_hears_that_it_guards_nothing(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, API_KEY=ALICE) as open_to_all:
        (warning,) = (line for line in open_to_all.lines() if "warning" in line)
    assert "SIGHTGLASS_API_KEY is what a client shows and guards nothing" in warning
    assert ALICE not in warning


# --- other sites' pages -------------------------------------------------------------------------------------------


def test_a_preflight_passes_without_a_key(caller: httpx2.Client) -> None:
    asked = "authorization,x-api-key,x-request-timeout-ms,content-type"
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    for path in ("/predict", "/predict/batch", "/model"):
        answer = caller.options(path, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["x-request-id"]
    stranger = caller.options("/predict", headers=headers | {"Origin": "https://evil.example"})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


ADDED = (
    "content-type x-requested-with cache-control pragma traceparent tracestate baggage sentry-trace content-encoding"
)
ADDED += " accept accept-language x-request-id x-correlation-id request-id b3 x-b3-traceid x-datadog-trace-id range"
ADDED += " elastic-apm-traceparent x-csrf-token x-xsrf-token if-none-match x-amzn-trace-id ngrok-skip-browser-warning"


def asks_for(caller: httpx2.Client, names: str, origin: str = PAGE) -> httpx2.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": names}
    return caller.options("/predict", headers=headers)


def test_a_preflight_may_ask_for_what_libraries_add(caller: httpx2.Client) -> None:
    for name in [*ADDED.split(), ",".join(ADDED.split()), "Traceparent, TRACESTATE"]:
        assert asks_for(caller, name).status_code == 200, name
    for name in ("x-mine", "traceparent,x-mine", "cookie"):
        assert asks_for(caller, name).status_code == 400, name


def test_a_setting_adds_headers_that_pages_may_send(digits_artifact: Path, tmp_path: Path) -> None:
    for chosen, mine, others in (("X-Mine, x-other", 200, 400), ("*", 200, 200)):
        with (
            serving(digits_artifact, tmp_path, CORS_ORIGINS="capacitor://localhost", CORS_HEADERS=chosen) as server,
            httpx2.Client(base_url=server.url) as client,
        ):
            asked = [asks_for(client, name, "capacitor://localhost") for name in ("x-mine,X-OTHER,baggage", "x-third")]
            assert [answer.status_code for answer in asked] == [mine, others]
            assert "x-mine" in asked[0].headers["access-control-allow-headers"].lower()
            answer = client.post("/predict", content=IMAGE, headers={"Origin": "capacitor://localhost"})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "capacitor://localhost")


@pytest.mark.parametrize(
    ("path", "body", "key", "status"),
    [
        ("/predict", IMAGE, ALICE, 200),
        ("/predict", IMAGE, "", 401),
        ("/predict", b"no image", ALICE, 415),
        ("/predict", bytes(200_000), ALICE, 413),
        ("/predict/batch", b"", ALICE, 400),
        ("/nothing", b"", ALICE, 404),
        ("/model", b"", ALICE, 405),
    ],
)
def test_a_page_may_read_answers_and_errors(
    caller: httpx2.Client, path: str, body: bytes, key: str, status: int
) -> None:
    for origin in (PAGE, "http://localhost:5173"):
        answer = caller.post(path, content=body, headers={"Origin": origin, "X-API-Key": key})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
        for shown in ("X-Request-ID", "Server-Timing", "Retry-After"):
            assert shown in answer.headers["access-control-expose-headers"]
    stranger = caller.post(path, content=body, headers={"Origin": "https://evil.example", "X-API-Key": key})
    assert "access-control-allow-origin" not in stranger.headers


def test_a_page_may_read_a_refusal_and_when_to_come_again(digits_artifact: Path) -> None:
    async def scene() -> None:
        async with service(digits_artifact, cors_origins="*", max_queue=1) as running:
            running.engine.gate.clear()
            first = running.predict()
            await running.until("sightglass_queue_images 1.0")
            refused = await running.predict(origin=PAGE)
            assert (refused.status, refused.headers["access-control-allow-origin"]) == (429, "*")
            assert int(refused.headers["retry-after"]) >= 1
            running.engine.gate.set()
            assert (await first).status == 200

    play(scene)


# --- security headers ---------------------------------------------------------------------------------------------

SECURITY = ("x-content-type-options", "x-frame-options", "referrer-policy", "cross-origin-resource-policy")


def test_every_answer_has_the_security_headers_where_they_are_on(caller: httpx2.Client) -> None:
    answers = [caller.get("/health"), caller.get("/model"), caller.get("/model", headers={"X-API-Key": ALICE})]
    answers += [caller.post("/predict", content=body, headers={"X-API-Key": ALICE}) for body in (IMAGE, b"none")]
    for answer in answers:
        assert [name in answer.headers for name in SECURITY] == [True] * 4
    assert answers[0].headers["x-content-type-options"] == "nosniff"


def test_the_local_default_adds_nothing(server: Server) -> None:
    answer = httpx2.post(f"{server.url}/predict", content=IMAGE, headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert set(answer.headers) == {"date", "content-type", "content-length", "x-request-id", "server-timing"}
    assert "authenticated" not in metrics(server.url)
