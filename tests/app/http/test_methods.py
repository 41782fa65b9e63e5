"""HEAD wherever GET is, OPTIONS with the true Allow on every path, and a 405 that tells the same."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.settings import DEFAULT_MODEL
from tests.serving import Server, connect, metrics, problem, serving

KEY = "alice-0123456789abcdef"
PAGE = "https://page.example"
READ = ["/", "/health", "/health/live", "/health/ready", "/metrics", "/model", "/model/card", "/model/card.md"]
READ += ["/model/report.json", "/openapi.json", "/docs", "/docs/errors", "/page/page.js", "/page/page.css"]
READ += ["/page/samples", "/page/samples/0", "/static-offline-docs/swagger-ui.css"]
READ += ["/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/cifar10", "/v2/models/cifar10/ready"]
READ += ["/v2/models/cifar10/config", "/v2/models/cifar10/versions/1", "/v2/models/cifar10/versions/1/ready"]
SENT = ["/predict", "/predict/batch", "/explain", "/v2/repository/index", "/v2/models/cifar10/infer"]
SENT += ["/v2/models/cifar10/versions/1/infer"]
NOWHERE = ["/nothing", "/predict/", "/health/", "/v3", "/v2/nothing", "/page", "//"]
READS, SENDS = "GET, HEAD, OPTIONS", "OPTIONS, POST"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(DEFAULT_MODEL, tmp_path_factory.mktemp("methods")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as ready:
        yield ready


@pytest.mark.parametrize("path", READ)
def test_head_has_what_get_has_but_the_body(client: httpx2.Client, path: str) -> None:
    varies = {"date", "x-request-id", "content-length" if path == "/metrics" else ""}
    for accept in ("*/*", "text/html"):
        got, head = (client.request(method, path, headers={"Accept": accept}) for method in ("GET", "HEAD"))
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        assert {k: v for k, v in head.headers.items() if k not in varies} == {
            k: v for k, v in got.headers.items() if k not in varies
        }


def test_nothing_follows_a_heads_head(server: Server) -> None:
    with connect(server) as connection:
        for path in ("/model", "/docs", "/nothing"):
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    heads = received.split(b"\r\n\r\n")
    assert [head.split()[1] for head in heads[:-1]] == [b"200", b"200", b"404", b"200"]
    assert heads[-1].startswith(b'{"status":"ok"')


@pytest.mark.parametrize("path", [*READ, *SENT])
def test_options_says_what_the_path_takes(client: httpx2.Client, path: str) -> None:
    answer = client.options(path)
    allowed = READS if path in READ else SENDS
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    for method in allowed.split(", "):
        assert client.request(method, path).status_code != 405


@pytest.mark.parametrize("path", [*READ, *SENT])
def test_another_method_is_told_the_same(client: httpx2.Client, path: str) -> None:
    allowed, own = (READS, "GET") if path in READ else (SENDS, "POST")
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - set(allowed.split(", ")):
        refused = client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed), method
        if method != "HEAD":
            said = refused.json()
            assert said.get("detail", said.get("error")) == f"Use {own} here."


@pytest.mark.parametrize("path", NOWHERE)
def test_where_nothing_is_no_method_is_allowed(client: httpx2.Client, path: str) -> None:
    target = str(client.base_url).rstrip("/") + path
    for method in ("OPTIONS", "HEAD", "GET", "POST"):
        answer = client.request(method, target)
        assert (answer.status_code, "allow" in answer.headers) == (404, False)


def test_heads_are_counted_as_such_and_under_their_route(client: httpx2.Client) -> None:
    client.head("/model")
    told = metrics(str(client.base_url).rstrip("/"))
    assert 'sightglass_http_requests_total{method="HEAD",route="/model",status="200"}' in told


@pytest.mark.parametrize("origins", ["", PAGE])
def test_a_service_with_keys_tells_who_has_one(tmp_path: Path, origins: str) -> None:
    chosen = {"API_KEYS": f"alice:{KEY}", "CORS_ORIGINS": origins}
    with serving(DEFAULT_MODEL, tmp_path, **chosen) as server, httpx2.Client(base_url=server.url) as client:
        problem(client.options("/predict"), 401, "unauthorized")
        assert client.options("/predict", headers={"X-API-Key": KEY}).headers["allow"] == SENDS
        assert client.options("/health").headers["allow"] == READS  # whose GET needs none either
        assert client.head("/metrics").status_code == 401
        assert client.head("/metrics", headers={"X-API-Key": KEY}).status_code == 200
        plain = client.options("/predict", headers={"Origin": PAGE, "X-API-Key": KEY})
        assert (plain.status_code, plain.headers["allow"]) == (204, SENDS)  # a page's own, and no preflight
        assert plain.headers.get("access-control-allow-origin", "") == origins


def test_the_whole_service_may_be_asked_and_one_behind_a_prefix(tmp_path: Path) -> None:
    with serving(DEFAULT_MODEL, tmp_path, ROOT_PATH="/vision") as server:
        with connect(server) as connection:
            connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 204")
        assert b"\r\nallow: GET, HEAD, OPTIONS, POST\r\n" in received
        for path in ("/v2", "/v2/models/cifar10", "/static-offline-docs/swagger-ui.css"):
            assert httpx2.options(f"{server.url}{path}").headers["allow"] == READS
            assert httpx2.post(f"{server.url}{path}").headers["allow"] == READS
            assert httpx2.head(f"{server.url}{path}").status_code == 200
