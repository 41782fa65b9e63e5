"""POST /predict past FastAPI's middlewares, router and parameters, which take as long as decoding a small image."""

from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_TIMEOUT = b"x-request-timeout-ms"


class FastPath:
    """ASGI middleware: calls one route's handler as FastAPI would, which documents it; everything else is for `app`."""

    def __init__(self, app: ASGIApp, route: APIRoute, root_path: str) -> None:
        """The handler takes what `parameters.TopK` and `parameters.Timeout` say."""
        self._app = app
        self._path = root_path + route.path
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Problem for what never became a request, see app.server.uvicorn_protocol."""
        refused = scope["state"].get("refused")
        if refused is not None:
            raise refused
        if scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        query = scope["query_string"].decode("latin-1")
        # of several FastAPI takes a header's first, and a query's last
        timeout_ms = dict(reversed(scope["headers"])).get(_TIMEOUT)
        top_k = dict(parse_qsl(query, keep_blank_values=True)).get("top_k") if query else None
        if timeout_ms is not None:
            timeout_ms = timeout_ms.decode("latin-1")
        response = await self._route.endpoint(Request(scope, receive), top_k, timeout_ms)
        await response(scope, receive, send)
