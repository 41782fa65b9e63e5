"""The wiring: settings and a proven model in, an ASGI application out."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import errors, settings, startup
from app.artifact.image import ImageError
from app.artifact.manifest import ArtifactError
from app.batcher import Batcher
from app.classifier import Classifier
from app.drain import Drain
from app.engines import EngineError
from app.errors import Problem
from app.memory import Memory
from app.metrics import Metrics, forget_dead_workers
from app.observability import Observability, configure_logging, event, logger, trace_of
from app.routes import health, model, predict
from app.settings import Settings, SettingsError
from app.startup import Served

_WATCH_SECONDS = 5


def from_environment() -> FastAPI:
    """What a worker process runs: its own engine, proven again in this process."""
    chosen = settings.load()
    configure_logging(chosen.log_format)
    forget_dead_workers()
    try:
        served = startup.start(chosen.model, chosen.variant, chosen.device, chosen.threads_per_worker)
        return create_app(chosen, served)
    except (ArtifactError, EngineError, SettingsError) as error:  # it was well when the parent looked
        event("error", str(error), logging.ERROR)
        time.sleep(_WATCH_SECONDS)  # the parent starts another at once
        raise SystemExit(1) from None


def create_app(chosen: Settings, served: Served) -> FastAPI:
    """The service around one proven variant. Raises EngineError or SettingsError where it does not fit the machine."""
    max_queue = max(1, chosen.max_queue // chosen.workers)
    metrics = Metrics(served, max_queue)
    batcher = Batcher(served.engine, chosen.max_batch, metrics.observe_batch)
    spec = served.manifest.input
    # before memory is shared out: the first full batch takes some that the engine then keeps
    served.engine.run(np.zeros((chosen.max_batch, spec.height, spec.width, 3), np.uint8))
    memory = Memory.of_worker(chosen.workers)
    classifier = Classifier(served, batcher, memory, chosen.threads_per_worker, max_queue, chosen.max_pixels)
    drain = Drain(
        chosen.drain_ms / 1000, lambda: event("drain", f"not ready any more; the port closes in {chosen.drain_ms} ms")
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await classifier.start()
        watcher = asyncio.create_task(_watch(classifier, metrics))
        event(
            "ready",
            f"self-test within {served.difference:.1e} of the checkpoint, {served.seconds:.2f} s; "
            f"{memory.decoding_bytes / 1e6:.0f} MB to decode in",
        )
        with drain.on_sigterm():
            yield
        watcher.cancel()
        await classifier.stop()
        event("stop", "stopped")

    app = FastAPIOffline(
        title="Sightglass",
        version=version("sightglass"),
        description=f"Image classification with {served.manifest.name} {served.manifest.version}.",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # a redirect names a host and scheme that a proxy in front may not have
        lifespan=lifespan,
    )
    app.include_router(predict.router(classifier, metrics, chosen.max_upload_bytes, chosen.deadline_ms))
    app.include_router(health.router(classifier, drain))
    app.include_router(model.router(classifier, metrics))
    for kind in (Problem, ImageError, EngineError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer_error)
    app.add_middleware(Observability, metrics=metrics, drain=drain)
    return app


async def _watch(classifier: Classifier, metrics: Metrics) -> None:
    while True:
        if classifier.batcher.failure:
            await classifier.try_again()
        metrics.ready.set(0 if classifier.why_not_ready() else 1)
        metrics.observe_process()
        await asyncio.sleep(_WATCH_SECONDS)


async def _answer_error(request: Request, error: Exception) -> Response:
    """The one handler: any known error becomes a problem document."""
    problem = errors.problem_of(error)
    if problem.code == "internal_error":
        logger.error("unhandled", exc_info=error)
    trace = trace_of(request)
    trace.facts["code"] = problem.code
    return errors.respond(problem, request, trace.request_id)
