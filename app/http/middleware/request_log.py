"""An id, one log line and the metrics of every request."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.drain import Drain
from app.telemetry.logs import Requests, event, logger
from app.telemetry.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE_ID = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OVERLOAD_SECONDS = 10
_WRITE_SECONDS = 0.1  # how long other workers' scrapes may lag behind
_QUIET = ("/health", "/metrics", "/v2/health")


@dataclass
class Trace:
    """What the log line says about one request. `stages`: name -> seconds; `facts`: the rest, as JSON values.

    `status` is 0 until the answer has begun.
    """

    request_id: str
    status: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes]) -> Self:
        """With the id that the client offers, or a new one."""
        trace = cls(f"{random.getrandbits(128):032x}")
        offered, parent = headers.get(b"x-request-id"), headers.get(b"traceparent")
        if offered and (known := _REQUEST_ID.fullmatch(offered.decode("latin-1"))):
            trace.request_id = known[0]
        if parent and (traced := _TRACE_ID.fullmatch(parent.decode("latin-1"))):
            trace.facts["trace_id"] = traced[1]
        return trace


def trace_of(scope: Scope) -> Trace:
    """This request's trace, for whoever knows something to fill in."""
    trace: Trace = scope["state"]["trace"]
    return trace


class RequestLog:
    """ASGI middleware, outside of everything else; `api` is the FastAPI application that is innermost."""

    def __init__(self, app: ASGIApp, api: FastAPI, metrics: Metrics, drain: Drain, overload: "Overload") -> None:
        self.api = api
        self._app = app
        self._metrics = metrics
        self._drain = drain
        self._overload = overload
        self._lines = Requests()
        self._writes_soon = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see what becomes of it."""
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        started = time.perf_counter()
        if self.api.root_path:
            scope["root_path"] = self.api.root_path
        trace = Trace.of(dict(scope["headers"]))
        scope.setdefault("state", {})["trace"] = trace

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                headers = [*message["headers"], (b"x-request-id", trace.request_id.encode())]
                if self._drain.draining:
                    headers.append((b"connection", b"close"))  # the client's next connection goes to another replica
                if trace.stages:
                    timing = ", ".join([f"{name};dur={s * 1e3:.2f}" for name, s in trace.stages.items()])
                    headers.append((b"server-timing", timing.encode()))
                message = {**message, "headers": headers}
            await send(message)

        self._metrics.in_progress += 1
        self._write_soon()
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._metrics.in_progress -= 1
            self._write_soon()
            self._record(scope, trace, time.perf_counter() - started)

    def _write_soon(self) -> None:
        """One write for many requests: each for itself would cost more than its answer's JSON."""
        if not self._writes_soon:
            self._writes_soon = True
            asyncio.get_running_loop().call_later(_WRITE_SECONDS, self._write)

    def _write(self) -> None:
        self._writes_soon = False
        self._metrics.write()

    def _record(self, scope: Scope, trace: Trace, seconds: float) -> None:
        """`route` is the template that matched, so that a scanner's paths do not become time series."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.observe_request(method, route, trace.status, seconds, trace.facts.get("code"))
        self._metrics.observe_stages(trace.stages)
        if "key" in trace.facts:
            self._metrics.count_key(trace.facts["key"])
        refused = trace.status == HTTPStatus.TOO_MANY_REQUESTS
        if refused:
            self._overload.count()
        quiet = refused or route.startswith(_QUIET)
        level = logging.DEBUG if quiet else logging.INFO
        if logger.isEnabledFor(level):
            facts = {
                "event": "request",
                "request_id": trace.request_id,
                "method": scope["method"],
                "route": route,
                "status": trace.status,
                "stages": {"duration": seconds, **trace.stages},
                **trace.facts,
            }
            if quiet:
                logger.debug("request", extra={"facts": [facts]})
            else:
                self._lines.add(facts)


class Overload:
    """One line in ten seconds; to log each refusal would take from the others what the refusal is to spare them."""

    def __init__(self) -> None:
        self._refused = 0

    def count(self) -> None:
        """One more request was refused with 429."""
        self._refused += 1
        if self._refused == 1:
            asyncio.get_running_loop().call_later(_OVERLOAD_SECONDS, self.tell)

    def tell(self) -> None:
        """The refusals since it was last told, if there were any."""
        if self._refused:
            refused, self._refused = self._refused, 0
            text = f"{refused} requests refused with 429 in {_OVERLOAD_SECONDS} s"
            event("overload", text, logging.WARNING, refused=refused, seconds=_OVERLOAD_SECONDS)
