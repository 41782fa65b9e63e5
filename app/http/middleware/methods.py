"""What every path takes beside its own methods: HEAD where there is GET, and OPTIONS (RFC 9110, 9.3.2 and 9.3.7)."""

import itertools
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.routing import Match, Mount
from starlette.types import Message, Receive, Scope, Send

_OWN = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SERVER = "*"  # OPTIONS asks so about no path in particular


class AnyMethod:
    """ASGI around the application: proxies, probes and download managers send both methods to any path."""

    def __init__(self, api: FastAPI) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer OPTIONS, unless there is nothing at the path; make a GET of HEAD, and pass on everything else."""
        if scope["method"] == "HEAD":
            as_get = {**scope, "method": "GET"}

            async def send_head(message: Message) -> None:
                await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

            try:
                await self._api(as_get, receive, send_head)
            finally:
                scope["route"] = as_get.get("route")
        elif scope["method"] == "OPTIONS" and (methods := allowed(self._api, scope)):
            await Response(status_code=204, headers={"Allow": ", ".join(methods)})(scope, receive, send)
        else:
            await self._api(scope, receive, send)


def allowed(api: FastAPI, scope: Mapping[str, Any]) -> list[str]:
    """The methods that there are at a request's path, of all of its routes together; none where there is no such."""
    prefix = scope.get("app_root_path", scope.get("root_path", ""))  # of the service, whatever route has taken of it
    asked = {"type": "http", "path": scope["path"], "root_path": prefix}
    if scope["path"].removeprefix(prefix) == _SERVER:
        own = {"GET", "POST"}
    else:
        own = set()
        for method, route in itertools.product(_OWN, api.routes):
            if isinstance(route, Mount) and method != "GET":  # files, which match whatever the method
                continue
            if route.matches({**asked, "method": method})[0] is Match.FULL:
                own.add(method)
    more = {"OPTIONS"} | ({"HEAD"} if "GET" in own else set())
    return sorted(own | more) if own else []
