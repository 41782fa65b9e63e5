"""Several processes on one port: copies of this one, each with a queue of connections of its own."""

import ctypes
import functools
import importlib
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.server.sockets import BACKLOG, another_queue
from app.telemetry import signals

if TYPE_CHECKING:
    from app.http.middleware.request_log import RequestLog

FACTORY = "app.server.workers:begin"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Supervisor(Multiprocess):
    """uvicorn's restarts the workers at SIGHUP, and at SIGTTIN and SIGTTOU changes their number; memory is dealt."""

    def handle_signals(self) -> None:
        """See Multiprocess."""
        for number in [number for number in self.signal_queue if number in signals.IGNORED]:
            self.signal_queue.remove(number)
            signals.note(number)
        super().handle_signals()


def run(config: uvicorn.Config, sockets: list[socket.socket], fork: bool) -> int:
    """Until a signal; returns the exit code. `config.app` is FACTORY.

    To fork takes a quarter of the CPU of a start that spawns, as uvicorn does; but where torch or CUDA have run, their
    threads and contexts would not survive it.
    """
    if fork and sys.platform == "linux":
        tcp = [each for each in sockets if each.family != socket.AF_UNIX]
        for each in tcp:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        uvicorn_processes = importlib.import_module("uvicorn._subprocess")
        uvicorn_processes.spawn = multiprocessing.get_context("fork")  # type: ignore[attr-defined]
        config.app = functools.partial(begin, tcp)
    else:
        for each in sockets:  # one queue for all of them, where the first ones wait for the first worker
            each.listen(BACKLOG)
    for each in sockets:
        each.set_inheritable(True)
    supervisor = _Supervisor(config, sockets)
    supervisor.run()
    return 1 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0


def begin(listening: Sequence[socket.socket] = ()) -> "RequestLog":
    """The application, in a worker; a forked one gets a queue of its own in place of each of `listening`.

    uvicorn has put in place what SIGTERM and SIGINT do here.
    """
    for number in signals.IGNORED:  # the parent's handlers, which a copy of it has too, make a note for the parent
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent()
    for each in listening:  # of one queue the quicker worker takes what there is, 29 of 32; to several the kernel deals
        with another_queue(each) as own:
            os.dup2(own.fileno(), each.fileno())

    from app.main import from_environment

    application = from_environment()
    for each in listening:
        each.listen(BACKLOG)
    return application


def _end_with_parent() -> None:
    """As if told by SIGTERM: nobody would replace this worker, and it would keep the port from the next start."""
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent.pid:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)
