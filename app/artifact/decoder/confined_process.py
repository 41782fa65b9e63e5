"""The other side of confined.py: a process that forks, and the forked ones, which decode under limits."""

import fcntl
import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import traceback
from pathlib import Path
from typing import Any, NoReturn

from app.artifact.decoder import header
from app.artifact.decoder.confined import receive, send
from app.artifact.decoder.decode import Decoded, decode
from app.artifact.decoder.errors import BrokenImage, ImageError
from app.artifact.decoder.header import Header

# What a header takes to be read, whatever it says, and a decode besides what its header claims; measured on files of
# many writers (tests/app/artifact/decoder/test_cost.py) and at least twice that.
_HEADER_BYTES, _SLACK_BYTES = 48_000_000, 16_000_000
_SECONDS, _SECONDS_A_BYTE, _SECONDS_A_CLAIMED_BYTE = 0.5, 20e-9, 20e-9
_MOST_GROWN = 16_000_000  # what one may keep of an image, and have another
_IDLE_SECONDS = 10


def main(control_fd: int) -> NoReturn:
    """Fork one process for each pair of descriptors that comes, until nobody holds the other end."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # a service that is told to stop answers before it does
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
    control = socket.socket(fileno=control_fd)
    gc.collect()
    gc.freeze()  # what is there now is shared by all
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not descriptors:
            os._exit(0)
        try:
            forked = os.fork()
        except OSError:  # no process more: who waits sees the connection closed
            forked = -1
        if forked == 0:
            control.close()
            _work(*descriptors)
        for each in descriptors:
            os.close(each)


def _work(connection_fd: int, lifeline: int) -> NoReturn:
    """Decode images until nobody sends one, or a limit is passed."""
    try:
        _confine(lifeline)
        connection = socket.socket(fileno=connection_fd)
        before = _pages(1)
        stay = True
        while stay:
            connection.settimeout(_IDLE_SECONDS)
            spec, max_pixels = pickle.loads(receive(connection))  # noqa: S301  # it comes from who started this process
            connection.settimeout(None)
            data = bytes(receive(connection))
            connection.sendall(b"+")
            stay = _one(connection, data, spec, max_pixels, before)
    except OSError:  # nobody is there, or nobody has another
        pass
    finally:
        os._exit(0)


def _confine(lifeline: int) -> None:
    """Write no file, start no process, and end when the other end of `lifeline` is closed, whatever is running: the
    kernel then sends SIGIO, whose default is to end."""
    for limit, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (most, most))
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before
        os._exit(0)


def _one(connection: socket.socket, data: bytes, spec: Any, max_pixels: int, before: int) -> bool:
    """Answer one image; whether there may be another."""
    found: Header | None = None
    said: dict[str, Any]
    pixels = b""
    try:
        _limit(_HEADER_BYTES + 2 * len(data), _SECONDS + _SECONDS_A_BYTE * len(data))
        found = header.read(data, spec, max_pixels)
        _unlimited()
        said = {"kind": found.kind, "size": found.size, "scale": found.scale, "memory": found.memory}
        _tell(connection, said, pixels)
        if connection.recv(1) != b"+":
            return False
        _limit(found.memory + _SLACK_BYTES, _SECONDS + _SECONDS_A_CLAIMED_BYTE * found.memory)
        decoded: Decoded = decode(data, found)
        _unlimited()
        said = {"kind": decoded.format, "geometry": decoded.geometry, "shape": decoded.pixels.shape}
        pixels = decoded.pixels.tobytes()
    except MemoryError:
        _unlimited()
        kind = header.kind_of(data)
        text = f"the {kind} file cannot be decoded: it takes more memory than any image of its size"
        said = {"error": BrokenImage.__name__, "text": text, "stay": False}
    except ImageError as error:
        _unlimited()
        said = {"error": type(error).__name__, "text": str(error)}
    except Exception:  # a fault of ours is told where it can be logged
        _unlimited()
        said = {"error": "bug", "text": traceback.format_exc(), "stay": False}
    del found
    stay = bool(said.setdefault("stay", _pages(1) - before - 2 * len(data) < _MOST_GROWN))
    _tell(connection, said, pixels)
    return stay


def _tell(connection: socket.socket, said: dict[str, Any], pixels: bytes) -> None:
    send(connection, json.dumps(said).encode(), pixels)


def _limit(memory: int, seconds: float) -> None:
    """So much more memory, and so much CPU time, from here on. The kernel ends what takes longer: SIGPROF."""
    _soft(resource.RLIMIT_AS, _pages(0) + memory)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _unlimited() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    _soft(resource.RLIMIT_AS, resource.RLIM_INFINITY)


def _soft(limit: int, most: int) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or most > hard):
        most = hard
    resource.setrlimit(limit, (most, hard))


def _pages(field: int) -> int:
    """Bytes of this process: 0 for its address space, 1 for what is resident."""
    return int(Path("/proc/self/statm").read_bytes().split()[field]) * resource.getpagesize()
