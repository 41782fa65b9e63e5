"""Several processes on one port: copies of this one, each with a queue of connections of its own."""

import ctypes
import functools
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

FACTORY = "app.workers:begin"
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
            config.app = functools.partial(begin, listening)
        supervisor = Multiprocess(config, [listening])
        supervisor.run()
    return 1 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0


def begin(listening: socket.socket | None = None) -> "Observability":
    """The application, in a worker; a forked one gets a queue of its own in place of `listening`.

    uvicorn has put in place what SIGTERM and SIGINT do here.
    """
    for name in _PARENTS:  # the parent's handlers, which a copy of it has too, only make a note for the parent
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    _end_with_parent()
    if listening:
        _queue_of_its_own(listening)

    from app.main import from_environment

    return from_environment()


def _end_with_parent() -> None:
    """As if told by SIGTERM: nobody would replace this worker, and it would keep the port from the next start."""
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent.pid:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)


def _queue_of_its_own(listening: socket.socket) -> None:
    """Of one queue the quicker worker takes whatever there is: 29 of 32 connections. To several the kernel deals."""
    with socket.socket(listening.family) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(listening.getsockname())
        os.dup2(own.fileno(), listening.fileno())
