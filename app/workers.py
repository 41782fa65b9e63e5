"""Several processes on one port: copies of this one, each with a queue of connections of its own."""

import ctypes
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

if TYPE_CHECKING:
    from app.observability import Observability

FACTORY = "app.main:from_environment"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENTS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH")


def run(config: uvicorn.Config, fork: bool) -> int:
    """Until a signal; returns the exit code. `config.app` is FACTORY. Raises OSError where another has the port.

    To fork takes a quarter of the CPU of a start that spawns, as uvicorn does; but where torch or CUDA have run, their
    threads and contexts would not survive it.
    """
    listening = config.bind_socket()
    with socket.socket(socket.AF_UNIX) as claim:
        if fork and sys.platform == "linux":
            # The port is shared from here on: a name that the kernel forgets with its processes keeps others away.
            claim.bind("\0sightglass {}:{}".format(*listening.getsockname()[:2]))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            uvicorn_processes = importlib.import_module("uvicorn._subprocess")
            uvicorn_processes.spawn = multiprocessing.get_context("fork")  # type: ignore[attr-defined]
            config.app = lambda: _begin(listening)
        supervisor = Multiprocess(config, [listening])
        supervisor.run()
    return 1 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0


def _begin(listening: socket.socket) -> "Observability":
    """The application, in a forked worker; uvicorn has put in place what SIGTERM and SIGINT do there."""
    for name in _PARENTS:  # the parent's handlers, which a copy of it has too, only make a note for the parent
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # and no worker outlives its parent: nobody would replace it, and it would keep the port from the next start
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _queue_of_its_own(listening)

    from app.main import from_environment

    return from_environment()


def _queue_of_its_own(listening: socket.socket) -> None:
    """Of one queue the quicker worker takes whatever there is: 29 of 32 connections. To several the kernel deals."""
    with socket.socket(listening.family) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(listening.getsockname())
        os.dup2(own.fileno(), listening.fileno())
