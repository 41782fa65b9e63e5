"""Around every request: an id, one log line, the metrics, and the answer to every error."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem, problem_of, respond
from app.http.drain import Drain
from app.http.methods import AnyMethod, allowed
from app.http.security import Exposure
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
    """What the log line says about one request. `stages`: name -> seconds; `facts`: the rest, as JSON values."""

    request_id: str
    stages: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def stage(self, name: str) -> "_Stage":
        """A context: times what happens inside as the stage `name`."""
        return _Stage(self.stages, name)


class _Stage:
    def __init__(self, stages: dict[str, float], name: str) -> None:
        self._stages = stages
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages[self._name] = time.perf_counter() - self._started


def trace_of(scope: Scope) -> Trace:
    """This request's trace, for a route to fill."""
    trace: Trace = scope["state"]["trace"]
    return trace


async def answer_error(request: Request, error: Exception) -> Response:
    """Any error as a problem document; of what nobody foresaw the log gets the traceback and the client nothing."""
    trace = trace_of(request.scope)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # the router knows the methods of the first route at the path only
        error.headers = {"Allow": ", ".join(allowed(request.app, request.scope))}
    problem = problem_of(error)
    trace.facts["code"] = problem.code
    if problem.code == "internal_error":
        facts = {"event": "error", "message": "unhandled", "request_id": trace.request_id}
        logger.error("unhandled", exc_info=error, extra={"facts": [facts]})
    return respond(problem, request, trace.request_id)


class Observability:
    """ASGI middleware, outside of everything else.

    `direct`: (method, path) -> what answers it without going through `api`, which documents it nevertheless.
    `exposure` is asked about both, where there is one.
    """

    def __init__(
        self,
        api: FastAPI,
        direct: Mapping[tuple[str, str], ASGIApp],
        metrics: Metrics,
        drain: Drain,
        exposure: Exposure | None = None,
    ) -> None:
        self.api = api
        self._routed = AnyMethod(api)
        self._direct = direct
        self._exposure = exposure
        self._drain = drain
        self._metrics = metrics
        self._lines = Requests()
        self._refused = 0
        self._writes_soon = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see what becomes of it."""
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        started = time.perf_counter()
        trace = _begin(scope, self.api.root_path)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
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
        refused = scope["state"].get("refused")
        app = _refusing(refused) if refused else self._direct.get((scope["method"], scope["path"]), self._routed)
        if self._exposure is not None:
            app, send = self._exposure.around(app, scope, send)
        try:
            await app(scope, receive, send_with_id)
        except Exception as error:
            if "code" not in trace.facts:  # FastAPI raises again what it has answered
                response = await answer_error(Request(scope), error)
                if not status:
                    await response(scope, receive, send_with_id)
        finally:
            self._metrics.in_progress -= 1
            self._write_soon()
            self._record(scope, trace, status, time.perf_counter() - started)

    def _write_soon(self) -> None:
        """One write for many requests: each for itself would cost more than its answer's JSON."""
        if not self._writes_soon:
            self._writes_soon = True
            asyncio.get_running_loop().call_later(_WRITE_SECONDS, self._write)

    def _write(self) -> None:
        self._writes_soon = False
        self._metrics.write()

    def _record(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        """`route` is the template that matched, so that a scanner's paths do not become time series."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.observe_request(method, route, status, seconds, trace.facts.get("code"))
        self._metrics.observe_stages(trace.stages)
        if "key" in trace.facts:
            self._metrics.count_key(trace.facts["key"])
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._count_overload()
        quiet = route.startswith(_QUIET) or status == HTTPStatus.TOO_MANY_REQUESTS
        level = logging.DEBUG if quiet else logging.INFO
        if logger.isEnabledFor(level):
            facts = {
                "event": "request",
                "request_id": trace.request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "stages": {"duration": seconds, **trace.stages},
                **trace.facts,
            }
            if quiet:
                logger.debug("request", extra={"facts": [facts]})
            else:
                self._lines.add(facts)

    def _count_overload(self) -> None:
        """One line in ten seconds; to log each refusal would take from the others what the refusal is to spare them."""
        self._refused += 1
        if self._refused == 1:
            asyncio.get_running_loop().call_later(_OVERLOAD_SECONDS, self.tell_overload)

    def tell_overload(self) -> None:
        """The refusals since it was last told, if there were any."""
        if not self._refused:
            return
        refused, self._refused = self._refused, 0
        text = f"{refused} requests refused with 429 in {_OVERLOAD_SECONDS} s"
        event("overload", text, logging.WARNING, refused=refused, seconds=_OVERLOAD_SECONDS)


def _refusing(problem: Problem) -> ASGIApp:
    """What answers a request that never became one; see app.server.uvicorn_protocol."""

    async def refuse(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise problem

    return refuse


def _begin(scope: Scope, root_path: str) -> Trace:
    """A trace with the id that the client offers, or a new one."""
    if root_path:
        scope["root_path"] = root_path
    headers = dict(scope["headers"])
    trace = Trace(f"{random.getrandbits(128):032x}")
    offered, parent = headers.get(b"x-request-id"), headers.get(b"traceparent")
    if offered and (known := _REQUEST_ID.fullmatch(offered.decode("latin-1"))):
        trace.request_id = known[0]
    if parent and (traced := _TRACE_ID.fullmatch(parent.decode("latin-1"))):
        trace.facts["trace_id"] = traced[1]
    scope.setdefault("state", {})["trace"] = trace
    return trace
