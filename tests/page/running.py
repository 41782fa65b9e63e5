"""The whole service in a thread of this process, around an engine that a test can stop or break."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.types import ASGIApp, Receive, Scope, Send

from app import settings
from app.artifact.doubt import Doubt, Doubted
from app.engines import Outputs, Runs
from app.inference import loading
from app.main import create_app
from app.settings import DEFAULT_MODEL

_PATIENCE_SECONDS = 30
_DOUBTED = Doubted(
    split="test", n=5000, unfamiliar=0.06, accepted=0.5, right=0.99, coverage=0.95, set_size=1.25, tolerance=0.1
)


class Moody:
    """The real engine: it stops in front of a closed `gate`, and fails while `mood` is an exception."""

    device = "cpu"

    def __init__(self, engine: Runs) -> None:
        self._engine = engine
        self.gate = threading.Event()
        self.gate.set()
        self.mood: Exception | None = None

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        assert self.gate.wait(_PATIENCE_SECONDS)
        if self.mood is not None:
            raise self.mood
        return self._engine.run(pixels)


@dataclasses.dataclass
class Running:
    url: str
    engine: Moody


def behind(prefix: str, app: ASGIApp) -> ASGIApp:
    """What a proxy does that puts a service at `prefix`, and nowhere else."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(prefix) if scope["path"].startswith(f"{prefix}/") else "/nowhere"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return proxy


@contextmanager
def running(prefix: str = "", doubt: Doubt | None = None, **chosen: Any) -> Iterator[Running]:
    """The default model behind a real socket on a free port, below the path `prefix`; with thresholds of our own."""
    served = loading.start(DEFAULT_MODEL, "onnx", "cpu")
    if doubt is not None:
        variants = {
            name: each.model_copy(update={"doubt": _DOUBTED}) for name, each in served.manifest.variants.items()
        }
        described = served.manifest.model_copy(update={"doubt": doubt, "variants": variants})
        served = dataclasses.replace(served, manifest=described)
    engine = Moody(served.engine)
    app = create_app(settings.load(threads=1, **chosen), dataclasses.replace(served, engine=engine))
    config = uvicorn.Config(
        behind(prefix, app),
        port=0,
        log_config=None,
        http="app.server.uvicorn_protocol:Connection",
        ws="none",
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        [listening] = server.servers
        yield Running(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}{prefix}", engine)
    finally:
        engine.gate.set()
        server.should_exit = True
        thread.join(_PATIENCE_SECONDS)
