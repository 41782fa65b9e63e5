"""Several processes on one port: copies of this one, each with a queue of connections of its own."""

import importlib
import multiprocessing
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

if TYPE_CHECKING:
    from app.observability import Observability

FACTORY = "app.main:from_environment"


def run(config: uvicorn.Config, fork: bool) -> None:
    """Until a signal. `config.app` is FACTORY.

    To fork takes a quarter of the CPU of a start that spawns, as uvicorn does; but where torch or CUDA have run, their
    threads and contexts would not survive it.
    """
    listening = config.bind_socket()
    if fork and sys.platform == "linux":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        importlib.import_module("uvicorn._subprocess").spawn = multiprocessing.get_context("fork")  # type: ignore[attr-defined]
        config.app = lambda: _begin(listening)
    Multiprocess(config, [listening]).run()


def _begin(listening: socket.socket) -> "Observability":
    """The application, in a forked worker."""
    # its parent's handler, which it has, would only note that the parent is to stop
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # Of one queue whoever is quicker takes whatever there is: 29 of 32 connections. Between several the kernel deals.
    with socket.socket(listening.family) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(listening.getsockname())
        os.dup2(own.fileno(), listening.fileno())

    from app.main import from_environment

    return from_environment()
