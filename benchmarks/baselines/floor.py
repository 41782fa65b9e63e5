"""The bare HTTP floor: our server, protocol and upload code, a constant answer; neither a decoder, a network nor a log.

    FLOOR_PORT=... FLOOR_WORKERS=... python -m benchmarks.baselines.floor

Bare ASGI, because the service's /predict goes past FastAPI too.
"""

import gc
import os

import uvicorn
from starlette.types import Receive, Scope, Send

from app.http.upload import read_image
from app.limits.memory import keep_little_of_what_is_freed

_BEST = b'{"class":"cat","probability":0.99}'
_ANSWER = (
    b'{"prediction":"cat","confidence":0.99,"top_k":[' + b",".join([_BEST] * 5) + b"],"
    b'"model":{"name":"floor","version":1,"variant":"none"}}'
)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The same answer to everything; a POST is read first."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["method"] == "POST":
        await read_image(dict(scope["headers"]), receive, 10_000_000, lambda _size: None)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    keep_little_of_what_is_freed()  # both as the service does
    gc.freeze()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(  # with what app/server/serve.py says
        "benchmarks.baselines.floor:app",
        port=int(os.environ["FLOOR_PORT"]),
        workers=int(os.environ["FLOOR_WORKERS"]),
        log_level="warning",
        access_log=False,
        http="app.server.uvicorn_protocol:Connection",
        server_header=False,
        timeout_keep_alive=75,
    )
