"""Prove the artifact, then serve it. What fails before listening is one sentence and exit code 1."""

import functools
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app import settings
from app.artifact.manifest import ArtifactError
from app.engines import EngineError
from app.engines.variants import VARIANTS
from app.inference import loading
from app.inference.loading import Served
from app.server import sockets
from app.server.sockets import Endpoint
from app.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    import uvicorn

    from app.http.middleware.cors import Pages
    from app.http.middleware.request_log import RequestLog

_DESCRIPTORS = 65_536


def serve(overrides: dict[str, Any]) -> int:
    """Serve until a signal; returns the exit code. `overrides` beat the environment, in the workers too."""
    os.environ.update({f"{PREFIX}{name.upper()}": str(value) for name, value in overrides.items()})
    try:
        chosen = settings.load()
        if chosen.workers is None:
            workers = loading.workers_for(chosen.model, chosen.variant, chosen.device, chosen.threads)
            chosen = chosen.model_copy(update={"workers": workers})
            os.environ[f"{PREFIX}WORKERS"] = str(workers)  # for the workers themselves
        _allow_many_connections()
        with sockets.bound(chosen) as bound, _metrics_folder(chosen.processes):
            return _serve(chosen, bound)
    except (SettingsError, ArtifactError, EngineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # logging is not configured yet, and may be JSON
        return 1


def _serve(chosen: Settings, bound: Endpoint) -> int:
    """Prove the artifact; one worker then serves what was proven, several load and prove their own."""
    from app.http.middleware.api_keys import hand_down, keys_of  # half of FastAPI
    from app.http.middleware.cors import Pages

    keys = keys_of(chosen)
    pages = Pages.of(chosen, bool(keys))
    served = loading.start(chosen.model, chosen.variant, chosen.device, chosen.threads_per_worker)

    import uvicorn  # here, because it and the application come after PROMETHEUS_MULTIPROC_DIR is set

    from app.limits.memory import Memory
    from app.main import create_app
    from app.server import workers
    from app.telemetry import logs

    Memory.of_worker(chosen.processes)  # before any worker starts: whether that many fit
    logs.configure(chosen.log_format)
    alone = chosen.processes == 1
    if alone:
        for each in bound.sockets:  # who comes while the rest is made waits for it
            each.listen(sockets.BACKLOG)
    _introduce(chosen, served, list(keys), pages, bound)
    config = _config(chosen, create_app(chosen, served) if alone else workers.FACTORY)
    can_fork = VARIANTS[served.variant].fork_safe and served.engine.device == "cpu"
    del served  # several workers have engines of their own
    # uvicorn raises it once more when it has stopped: to end as a program does, not at once as while it was starting
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if not alone:
            if keys:
                hand_down(keys)
            return workers.run(config, bound.sockets, can_fork)
        server = uvicorn.Server(config)
        server.run(bound.sockets)
        return 0 if server.started else 1
    except SystemExit as stop:  # uvicorn has said why: a worker that cannot start
        return 1 if stop.code else 0
    except KeyboardInterrupt:  # raised once more, too
        return 0


def _config(chosen: Settings, application: "RequestLog | str") -> "uvicorn.Config":
    """uvicorn's: of an application, or of the name of what makes one in each worker."""
    import uvicorn

    from app.server.connection_deadlines import Waiting
    from app.server.uvicorn_protocol import Connection

    return uvicorn.Config(
        application,
        factory=isinstance(application, str),
        workers=chosen.processes,
        root_path=chosen.root_path,
        log_config=None,
        access_log=False,
        http=functools.partial(Connection, waiting=Waiting(chosen.header_timeout_ms / 1000)),  # type: ignore[arg-type]
        ws="none",
        server_header=False,
        timeout_keep_alive=75,  # above the 60 s for which proxies keep idle connections, or they meet resets
        timeout_graceful_shutdown=chosen.deadline_ms // 1000 + 1,
        # uvicorn's 5 s end a worker that is still importing torch on a busy machine, and then the next one
        timeout_worker_healthcheck=60,
    )


def _allow_many_connections() -> None:
    """A shell's 1,024 descriptors are for programs that use select(); who keeps connections open should need more."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    if least != resource.RLIM_INFINITY and least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@contextmanager
def _metrics_folder(workers: int) -> Iterator[None]:
    """Where prometheus_client lets several workers' metrics meet; one worker needs no files."""
    if workers == 1:
        yield
        return
    # in memory, and the one folder that is writable in a read-only container
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # the name in it is random
    with tempfile.TemporaryDirectory(prefix="sightglass-metrics-", dir=shared, ignore_cleanup_errors=True) as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def _introduce(chosen: Settings, served: Served, keys: list[str], pages: "Pages", bound: Endpoint) -> None:
    """What is served, on what, within which limits, to whom, and how to try it."""
    from app.telemetry.logs import event

    who = f"with the key of {', '.join(keys)}" if keys else "without a key"
    who += f"; pages of {', '.join(pages.origins)}" if pages.origins else ""
    manifest, threads = served.manifest, chosen.threads_per_worker
    event(
        "start",
        f"{manifest.name} {manifest.version}, {served.variant} on {served.engine.device}; "
        f"{threads} thread{'s' if threads > 1 else ''} a worker ({chosen.threads_reason}); "
        f"at most {chosen.max_upload_bytes / 1e6:g} MB and {chosen.max_pixels / 1e6:g} MP an image, "
        f"{chosen.max_queue} waiting, {chosen.deadline_ms} ms; open to: {bound.where} {who}",
        model=manifest.name,
        version=manifest.version,
        variant=served.variant,
        threads=threads,
        workers=chosen.processes,
    )
    if served.warning:
        event("warn", served.warning, logging.WARNING)
    if os.environ.get(f"{PREFIX}API_KEY") and not keys:
        text = f"{PREFIX}API_KEY is what a client shows and guards nothing; a service's keys are {PREFIX}API_KEYS"
        event("warn", text, logging.WARNING)
    event(
        "try", f"curl -F file=@cat.jpg {bound.curl}/predict" + (f"   in a browser: {bound.page}" if bound.page else "")
    )
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s (Press CTRL+C to quit)", bound.url)
