"""The service as an AWS Lambda function: the artifact is proven while Lambda imports this, before any request.

Lambda gives each process one request at a time, and freezes it in between.
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

from app import settings
from app.artifact.manifest import ArtifactError
from app.engines import EngineError
from app.inference import loading
from app.main import create_app
from app.settings import SettingsError
from app.telemetry import logs
from app.telemetry.logs import event

# Left by nobody: Lambda ends a frozen process without waking it.
_lifespan = AsyncExitStack()


def _start() -> Mangum:
    """Raises ImportError with one sentence: of all errors the one that Lambda reports without a traceback."""
    try:
        chosen = settings.load()
        logs.configure(chosen.log_format)
        served = loading.start(chosen.model, chosen.variant, chosen.device, chosen.threads_per_worker)
        application = create_app(chosen, served)
    except (SettingsError, ArtifactError, EngineError, OSError) as error:
        raise ImportError(str(error)) from None
    if served.warning:
        event("warn", served.warning, logging.WARNING)
    application.api.root_path = chosen.root_path
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum runs every request in the current one
    # Mangum's own lifespan would start and stop the application around each request; the batcher starts only once.
    loop.run_until_complete(_lifespan.enter_async_context(application.api.router.lifespan_context(application.api)))
    text = [*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"]  # what is not text leaves as base64
    return Mangum(application, lifespan="off", text_mime_types=text)


handler = _start()
