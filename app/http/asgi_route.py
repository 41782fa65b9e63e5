"""What most requests ask for, without FastAPI between the server and us."""

from typing import Any

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class PlainRoute(APIRoute):
    """A route that is documented like any other and called as bare ASGI.

    FastAPI's own way to a handler and back takes more CPU than the decoder (docs/performance.md).
    """

    def __init__(self, path: str, called: ASGIApp, documented: Any, **documentation: Any) -> None:
        """`documented` has the parameters, the answer and the docstring for OpenAPI; it is never called."""
        super().__init__(path, documented, **documentation)

        async def with_route(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = self
            await called(scope, receive, send)

        self.app = with_route
