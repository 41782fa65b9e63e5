"""Whatever is raised, as a problem document."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.artifact.decoder.confined import DecoderLost
from app.errors import problem_of, respond
from app.http.middleware.methods import allowed
from app.http.middleware.request_log import trace_of
from app.telemetry.logs import logger


class ErrorResponses:
    """ASGI middleware. What FastAPI calls has `answer_error` from it; this is for what is around FastAPI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what `app` raises, unless its answer has begun."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            trace = trace_of(scope)
            if "code" not in trace.facts:  # FastAPI raises again what it has answered
                response = await answer_error(Request(scope), error)
                if not trace.status:
                    await response(scope, receive, send)


async def answer_error(request: Request, error: Exception) -> Response:
    """Any error as a problem document; of what nobody foresaw, and of a decoder's process that is not to be had, the
    log gets the traceback and the client nothing."""
    trace = trace_of(request.scope)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # the router knows the methods of the first route at the path only
        error.headers = {"Allow": ", ".join(allowed(request.app, request.scope))}
    problem = problem_of(error)
    trace.facts["code"] = problem.code
    if problem.code == "internal_error" or isinstance(error, DecoderLost):
        message = "no decoder process" if isinstance(error, DecoderLost) else "unhandled"
        facts = {"event": "error", "message": message, "request_id": trace.request_id}
        logger.error(message, exc_info=error, extra={"facts": [facts]})
    return respond(problem, request, trace.request_id)
