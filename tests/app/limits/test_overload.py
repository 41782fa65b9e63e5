"""More requests than the service can answer: what it says, what it leaves undone, and that /health never waits."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app import settings
from app.engines import Outputs, Runs
from app.inference import loading
from app.main import create_app
from tests.images import drawing, encode

SMALL = encode(drawing(8, 8))
LARGE = encode(drawing(600, 600), "BMP")  # decoded in a thread
PATIENCE_SECONDS = 20


class Gated:
    """The real engine behind a gate; `seen` counts the images that came through."""

    device = "cpu"

    def __init__(self, engine: Runs) -> None:
        self._engine = engine
        self.gate = threading.Event()
        self.gate.set()
        self.seen = 0

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        assert self.gate.wait(PATIENCE_SECONDS)
        self.seen += len(pixels)
        return self._engine.run(pixels)


@dataclasses.dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None


class Service:
    """The application, called as its server calls it."""

    def __init__(self, app: Any, engine: Gated) -> None:
        self.app, self.engine = app, engine

    async def call(
        self, method: str, path: str, body: bytes = b"", gone: asyncio.Future[None] | None = None, **headers: str
    ) -> Reply:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs}
        scope |= {"server": ("localhost", 80), "scheme": "http", "state": {"closed": gone}}
        messages, reply = [{"type": "http.request", "body": body}], Reply()

        async def receive() -> Any:
            return messages.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body = json.loads(message["body"]) if path != "/metrics" else message["body"].decode()

        await self.app(scope, receive, send)
        return reply

    def predict(self, body: bytes = SMALL, **headers: Any) -> "asyncio.Task[Reply]":
        return asyncio.create_task(self.call("POST", "/predict", body, **headers))

    async def until(self, metric: str) -> None:
        """Wait until /metrics has this line: what it says has happened."""
        while metric not in (await self.call("GET", "/metrics")).body:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def service(artifact: Path, **chosen: Any) -> AsyncIterator[Service]:
    served = loading.start(artifact, "onnx", "cpu")
    engine = Gated(served.engine)
    app = create_app(settings.load(model=artifact, **chosen), dataclasses.replace(served, engine=engine))
    engine.seen = 0
    async with app.api.router.lifespan_context(app.api):
        try:
            yield Service(app, engine)
        finally:
            engine.gate.set()


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def patiently() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scene()

    asyncio.run(patiently())


def test_health_answers_at_once_while_the_engine_is_busy_and_the_queue_is_full(digits_artifact: Path) -> None:
    async def scene() -> None:
        async with service(digits_artifact, max_queue=4) as running:
            running.engine.gate.clear()
            waiting = [running.predict() for _ in range(4)]
            await running.until("sightglass_queue_images 4.0")
            assert (await running.predict()).status == 429
            for path in ("/health", "/health/ready", "/health/live"):
                assert (await running.call("GET", path)).status == 200
            running.engine.gate.set()
            assert [(await each).status for each in waiting] == [200] * 4

    play(scene)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
def test_a_request_that_is_given_up_in_the_queue_never_reaches_the_engine(digits_artifact: Path, body: bytes) -> None:
    async def scene() -> None:
        async with service(digits_artifact, deadline_ms=15_000) as running:
            running.engine.gate.clear()
            gone = asyncio.get_running_loop().create_future()
            first = running.predict()
            await running.until("sightglass_queue_images 1.0")
            impatient, leaving = running.predict(body, x_request_timeout_ms="50"), running.predict(body, gone=gone)
            late = await impatient
            assert (late.status, late.body["code"]) == (504, "deadline_exceeded")
            assert "50 ms" in late.body["detail"]
            gone.set_result(None)
            await leaving
            running.engine.gate.set()
            assert (await first).status == 200
            assert running.engine.seen == 1
            outcomes = (await running.call("GET", "/metrics")).body
            for outcome in ("predicted", "expired", "disconnected"):
                assert f'sightglass_images_total{{outcome="{outcome}"}} 1.0' in outcomes
            assert "sightglass_queue_images 0.0" in outcomes

    play(scene)


def test_a_request_that_is_given_up_before_its_turn_is_not_decoded(
    digits_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, decoded = threading.Event(), []

    def decode(data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        assert decoding.wait(PATIENCE_SECONDS)
        return real(data, *rest)

    import app.inference.classifier

    real = app.inference.classifier.decode
    monkeypatch.setattr(app.inference.classifier, "decode", decode)

    async def scene() -> None:
        async with service(digits_artifact, threads=1) as running:
            first = running.predict(LARGE)
            while not decoded:
                await asyncio.sleep(0.01)
            assert (await running.predict(LARGE + b"late", x_request_timeout_ms="50")).status == 504
            decoding.set()
            assert (await first).status == 200
            assert decoded == [LARGE]

    play(scene)


def test_the_deadline_of_the_service_is_the_longest_there_is(digits_artifact: Path) -> None:
    async def scene() -> None:
        async with service(digits_artifact, deadline_ms=100) as running:
            running.engine.gate.clear()
            late = await running.predict(x_request_timeout_ms="999999999999999")
            assert (late.status, "100 ms" in late.body["detail"]) == (504, True)

    play(scene)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "1.5"])
def test_a_timeout_that_is_no_number_of_milliseconds_is_a_bad_parameter(digits_artifact: Path, value: str) -> None:
    async def scene() -> None:
        async with service(digits_artifact) as running:
            refused = await running.predict(x_request_timeout_ms=value)
            assert (refused.status, refused.body["code"]) == (400, "bad_parameter")
            assert "X-Request-Timeout-Ms" in refused.body["detail"]

    play(scene)


def test_retry_after_is_the_queue_over_the_measured_rate(
    digits_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.inference.classifier.time.perf_counter", lambda: now)

    async def scene() -> None:
        nonlocal now
        async with service(digits_artifact, max_queue=6) as running:
            for _ in range(30):  # one after the other, 2.5 s each, with idle hours in between, which say nothing
                running.engine.gate.clear()
                one = running.predict()
                await running.until("sightglass_queue_images 1.0")
                now += 2.5
                running.engine.gate.set()
                assert (await one).status == 200
                now += 3600
            for seconds in (15, 0):  # six together take as long as six in turn
                running.engine.gate.clear()
                waiting = [running.predict() for _ in range(6)]
                await running.until("sightglass_queue_images 6.0")
                refused = await running.predict()
                assert (refused.status, refused.headers["retry-after"]) == (429, str(6 * 5 // 2))
                now += seconds
                running.engine.gate.set()
                await asyncio.gather(*waiting)

    play(scene)


def test_refusals_are_one_line_of_the_log_and_not_one_each(
    digits_artifact: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.http.middleware.request_log._OVERLOAD_SECONDS", 3)
    caplog.set_level("INFO", logger="sightglass")

    async def scene() -> None:
        async with service(digits_artifact, max_queue=1) as running:
            running.engine.gate.clear()
            first = running.predict()
            await running.until("sightglass_queue_images 1.0")
            for _ in range(20):
                assert (await running.predict()).status == 429
            while not any(record.levelname == "WARNING" for record in caplog.records):
                await asyncio.sleep(0.05)
            running.engine.gate.set()
            await first

    play(scene)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["overload 20 requests refused with 429 in 3 s"]
    lines = [facts for record in caplog.records for facts in getattr(record, "facts", [])]
    assert [facts["status"] for facts in lines if facts["event"] == "request"] == [200]
