"""The wiring: settings and a proven model in, an ASGI application out."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator
from importlib.metadata import version

import numpy as np
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app import DISTRIBUTION, settings
from app.artifact import report
from app.artifact.manifest import ArtifactError
from app.engines import EngineError
from app.http import openapi
from app.http.drain import Drain
from app.http.exchange import Terms
from app.http.middleware.api_keys import ApiKeys, keys_of
from app.http.middleware.cors import Pages, cors
from app.http.middleware.error_responses import ErrorResponses, answer_error
from app.http.middleware.fast_path import FastPath
from app.http.middleware.methods import AnyMethod
from app.http.middleware.request_log import Overload, RequestLog
from app.http.middleware.security_headers import SecurityHeaders
from app.inference import loading
from app.inference.batcher import Batcher
from app.inference.classifier import Classifier
from app.inference.loading import Served
from app.inference.occlusion import Occlusion
from app.limits.admission import Admission
from app.limits.memory import Memory
from app.open_inference import infer_route, model_routes
from app.open_inference.models import models_of
from app.routes import batch, card, explain, health, model, page, predict
from app.settings import Settings, SettingsError
from app.telemetry import logs, signals
from app.telemetry.logs import event
from app.telemetry.metrics import Metrics, forget_dead_workers

_WATCH_SECONDS = 5


def from_environment() -> RequestLog:
    """What a worker process runs: its own engine, proven again in this process."""
    chosen = settings.load()
    logs.configure(chosen.log_format)
    forget_dead_workers()
    try:
        served = loading.start(chosen.model, chosen.variant, chosen.device, chosen.threads_per_worker)
        return create_app(chosen, served)
    except (ArtifactError, EngineError, SettingsError) as error:  # it was well when the parent looked
        event("error", str(error), logging.ERROR)
        time.sleep(_WATCH_SECONDS)  # the parent starts another at once
        raise SystemExit(1) from None


def create_app(chosen: Settings, served: Served) -> RequestLog:
    """The service around one proven variant: a FastAPI application and what is around it; `api` is the former.

    Raises EngineError or SettingsError where it does not fit the machine.
    """
    max_queue = max(1, chosen.max_queue // chosen.processes)
    metrics = Metrics(served, max_queue)
    keys = keys_of(chosen)
    pages = Pages.of(chosen, bool(keys))
    batcher = Batcher(served.engine, chosen.max_batch, chosen.batch_delay_ms / 1000, metrics.observe_batch)
    spec = served.manifest.input
    # before memory is shared out: the first full batch takes some that the engine then keeps
    served.engine.run(np.zeros((chosen.max_batch, spec.height, spec.width, 3), np.uint8))
    memory = Memory.of_worker(chosen.processes)
    admission = Admission(max_queue, memory.upload_bytes)
    classifier = Classifier(served, batcher, admission, memory, chosen.threads_per_worker, chosen.max_pixels)
    drain = Drain(
        chosen.drain_ms / 1000, lambda: event("drain", f"not ready any more; the port closes in {chosen.drain_ms} ms")
    )
    overload = Overload()

    api = FastAPIOffline(
        title="Sightglass",
        version=version(DISTRIBUTION),
        description=f"Image classification with {served.manifest.name} {served.manifest.version}.",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # a redirect names a host and scheme that a proxy in front may not have
        lifespan=lambda _api: _lifespan(classifier, memory, metrics, drain, overload),
    )
    terms = Terms(admission, metrics, chosen.max_upload_bytes, chosen.deadline_ms)
    predict_route = _add_routes(api, classifier, terms, drain, chosen.max_batch)
    for kind in (HTTPException, RequestValidationError, Exception):
        api.add_exception_handler(kind, answer_error)

    app: ASGIApp = FastPath(AnyMethod(api), predict_route, chosen.root_path)
    if keys:
        metrics.expect_keys(keys)
        app = ApiKeys(app, keys, chosen.root_path)
    app = ErrorResponses(app)
    if pages.origins:
        app = cors(app, pages)
    if chosen.security_headers == "on":
        app = SecurityHeaders(app)
    return RequestLog(app, api, metrics, drain, overload)


def _add_routes(api: FastAPI, classifier: Classifier, terms: Terms, drain: Drain, max_batch: int) -> APIRoute:
    """Every route, with what it needs; answers /predict's."""
    served = classifier.served
    predict_route = predict.route(classifier, terms)
    api.router.routes.append(predict_route)
    api.include_router(batch.router(classifier, terms, max_batch))
    api.include_router(
        explain.router(classifier, Occlusion(classifier.batcher, served.manifest.input, max_batch), terms)
    )
    api.include_router(health.router(classifier, drain))
    api.include_router(model.router(classifier, terms.metrics))
    measured = report.read(served.folder, served.manifest)
    api.include_router(card.router(served, measured))
    api.include_router(page.router(served, measured, terms.max_upload_bytes))
    models = models_of(served.manifest, served.variant)
    api.include_router(model_routes.router(classifier, drain, models))
    api.include_router(infer_route.router(classifier, terms, models))
    openapi.complete(api)
    return predict_route


@contextlib.asynccontextmanager
async def _lifespan(
    classifier: Classifier, memory: Memory, metrics: Metrics, drain: Drain, overload: Overload
) -> AsyncIterator[None]:
    """What happens before the first request and after the last one."""
    await classifier.start()

    async def watch() -> None:
        while True:
            if classifier.batcher.failure:
                await classifier.try_again()
            metrics.ready.set(0 if classifier.why_not_ready() else 1)
            metrics.observe_process()
            await asyncio.sleep(_WATCH_SECONDS)

    watcher = asyncio.create_task(watch())
    served = classifier.served
    event(
        "ready",
        f"self-test within {served.difference:.1e} of the checkpoint, {served.seconds:.2f} s; "
        f"{memory.decoding_bytes / 1e6:.0f} MB to decode in",
    )
    gc.collect()
    gc.freeze()  # nothing of what is loaded by now is garbage; to look through it again would take 40 ms each time
    with drain.on_sigterm(), signals.noted():
        yield
    watcher.cancel()
    await classifier.stop()
    overload.tell()
    metrics.write()
    event("stop", "stopped")
