"""Around every request: an id, one log line, the metrics, and the answer to what nobody caught."""

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.drain import Drain
from app.errors import problem_of, respond
from app.metrics import Metrics

logger = logging.getLogger("sightglass")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE_ID = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = ("/health", "/metrics")


@dataclass
class Trace:
    """What the log line says about one request. `stages`: name -> seconds; `facts`: the rest, as JSON values."""

    request_id: str
    stages: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside as the stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - started


def trace_of(request: Request) -> Trace:
    """This request's trace, for a route to fill."""
    trace: Trace = request.scope["state"]["trace"]
    return trace


class Observability:
    """ASGI middleware, outside of everything that is ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics, drain: Drain) -> None:
        self._app = app
        self._drain = drain
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see what becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        trace = Trace(offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex)
        if parent := _TRACE_ID.fullmatch(headers.get("traceparent", "")):
            trace.facts["trace_id"] = parent[1]
        scope.setdefault("state", {})["trace"] = trace
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-ID"] = trace.request_id
                if self._drain.draining:
                    out["Connection"] = "close"  # the client's next connection goes to another replica
                if trace.stages:
                    out["Server-Timing"] = ", ".join(f"{name};dur={s * 1e3:.2f}" for name, s in trace.stages.items())
            await send(message)

        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:  # nobody caught it: our bug, told to the log and not to the client
            logger.exception("unhandled", extra={"facts": {"event": "error", "request_id": trace.request_id}})
            trace.facts["code"] = "internal_error"
            if not status:
                await respond(problem_of(error), Request(scope), trace.request_id)(scope, receive, send_with_id)
        finally:
            self._metrics.in_progress.dec()
            self._record(scope, trace, status, time.perf_counter() - started)

    def _record(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        """`route` is the template that matched, so that a scanner's paths do not become time series."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if code := trace.facts.get("code"):
            self._metrics.problems.labels(code).inc()
        for stage, duration in trace.stages.items():
            self._metrics.stages.labels(stage).observe(duration)
        facts = {
            "event": "request",
            "request_id": trace.request_id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1e3, 2),
            **{f"{stage}_ms": round(duration * 1e3, 2) for stage, duration in trace.stages.items()},
            **trace.facts,
        }
        level = logging.DEBUG if route.startswith(_QUIET) else logging.INFO
        logger.log(level, _line(facts, trace), extra={"facts": facts})


def _line(facts: dict[str, Any], trace: Trace) -> str:
    """E.g. `200 POST /predict 6.1ms cat 0.97 (decode 0.4 queue 0.2 inference 4.8) batch=3 id=9f2c`."""
    words = [f"{facts['status']} {facts['method']} {facts['route']} {facts['duration_ms']}ms"]
    if "prediction" in facts:
        words.append(f"{facts['prediction']} {facts['confidence']:.2f}")
    if "code" in facts:
        words.append(facts["code"])
    if trace.stages:
        words.append(f"({' '.join(f'{name} {s * 1e3:.1f}' for name, s in trace.stages.items())})")
    if "batch_size" in facts:
        words.append(f"batch={facts['batch_size']}")
    return " ".join([*words, f"id={trace.request_id}"])


class _Formatter(logging.Formatter):
    """Text for people or JSON for machines; both UTC, one line but for a traceback."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record with its `facts`, if the caller gave any."""
        when = datetime.fromtimestamp(record.created, UTC)
        trouble = self.formatException(record.exc_info) if record.exc_info else ""
        if not self._as_json:
            level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()} "
            return f"{when:%H:%M:%S} {level}{record.getMessage()}" + (f"\n{trouble}" if trouble else "")
        facts = getattr(record, "facts", None) or {"event": "log", "message": record.getMessage()}
        line = {"ts": when.isoformat(timespec="milliseconds"), "level": record.levelname.lower(), **facts}
        return json.dumps(line | ({"traceback": trouble} if trouble else {}), ensure_ascii=False)


def configure_logging(log_format: str) -> None:
    """Everything to stderr, uvicorn's messages too; its own access log is off because ours says more."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(log_format == "json"))
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)


def event(name: str, text: str, level: int = logging.INFO, **facts: Any) -> None:
    """A line that belongs to no request: start, ready, drain, stop."""
    logger.log(level, f"{name:<6} {text}", extra={"facts": {"event": name, "message": text, **facts}})
