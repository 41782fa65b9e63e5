"""/predict past FastAPI is /predict through FastAPI: the same parameters, answers and errors."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app import settings
from app.inference import loading
from app.main import create_app
from app.settings import DEFAULT_MODEL
from tests.images import drawing, encode

IMAGE = encode(drawing(32, 32), "JPEG")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """The fast path takes /prefix/predict, where a proxy leaves the prefix; /predict goes through FastAPI."""
    served = loading.start(DEFAULT_MODEL, "onnx", "cpu")
    app = create_app(settings.load(root_path="/prefix"), served)
    with TestClient(app, raise_server_exceptions=False) as ready:
        yield ready


def answer(client: TestClient, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    reply = client.post(path, content=IMAGE, headers=headers)
    return reply.status_code, {k: v for k, v in reply.json().items() if k != "request_id"}


QUERIES = ["", "?", "?top_k=3", "?top_k=all", "?top_k=0", "?top_k=", "?top_k=1_0", "?top_k=2&top_k=4", "?top_k=%33"]
QUERIES += ["?top_k=+3", "?top_k=99", "?class=cat", "?TOP_K=1", "?top_k=%ff"]


@pytest.mark.parametrize("query", QUERIES)
def test_both_ways_read_the_query_alike(client: TestClient, query: str) -> None:
    assert answer(client, f"/prefix/predict{query}", {}) == answer(client, f"/predict{query}", {})


@pytest.mark.parametrize("timeout_ms", ["5000", "0", "", "soon", "1_000", "5000.0", "+5000", "99999999999999999", "-1"])
def test_both_ways_read_the_time_limit_alike(client: TestClient, timeout_ms: str) -> None:
    headers = {"X-Request-Timeout-Ms": timeout_ms}
    status, body = answer(client, "/prefix/predict", headers)
    assert (status, body) == answer(client, "/predict", headers)
    assert status == (200 if timeout_ms == "5000" else 400), body


@pytest.mark.parametrize("path", ["/prefix/predict", "/predict", "/predict/batch"])
def test_of_repeated_parameters_all_ways_take_the_same(client: TestClient, path: str) -> None:
    """As FastAPI does: of a header's lines the first, of a query's values the last."""
    image: Any = {"files": {"files": ("a.jpg", IMAGE)}} if path.endswith("batch") else {"content": IMAGE}
    for limits, status in ((("5000", "soon"), 200), (("soon", "5000"), 400)):
        headers = [("X-Request-Timeout-Ms", limit) for limit in limits]
        reply = client.post(f"{path}?top_k=2&top_k=4", headers=headers, **image)
        assert reply.status_code == status, limits
        if status == 200:
            (result,) = reply.json().get("results", [reply.json()])
            assert len(result["top_k"]) == 4


def test_the_fast_path_is_past_fastapi(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    through, call = [], FastAPI.__call__

    async def seen(self: FastAPI, scope: Any, receive: Any, send: Any) -> None:
        through.append((scope["method"], scope["path"]))
        await call(self, scope, receive, send)

    monkeypatch.setattr(FastAPI, "__call__", seen)
    assert client.post("/prefix/predict", content=IMAGE).status_code == 200
    assert client.get("/prefix/predict").status_code in (404, 405)
    assert client.post("/predict", content=IMAGE).status_code == 200
    assert through == [("GET", "/prefix/predict"), ("POST", "/predict")]
