"""Decoding in a process that can be killed: for files of which nobody knows what they cost before it is paid.

One process is started at the first such file and has this code and Pillow's, and nothing else. It forks one for each
image that is decoded at a time (confined_process.py), which takes further ones while it keeps to its limits. Nothing is
shared but sockets and pipes: no /dev/shm, no file, no thread of ours, no ONNX Runtime.
"""

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.artifact.decoder.errors import BrokenImage, ImageError, TooManyPixels, UnsupportedImage
from app.artifact.decoder.input_spec import InputSpec, Preview
from app.artifact.decoder.stop import Stop, Stopped

# What the process that forks holds, and what a forked one holds besides the file and what its header claims.
PROCESS_BYTES, FORKED_BYTES = 48_000_000, 8_000_000
_MOST_IDLE = 16
_WALL_SECONDS = 300  # of one answer; long before, a process has used up its CPU time
_TOGETHER = 65_536
_ROOT = str(Path(__file__).resolve().parents[3])  # an editable install is found by a hook, which -S leaves out
_LENGTH = struct.Struct("<Q")
_ERRORS = {kind.__name__: kind for kind in (UnsupportedImage, BrokenImage, TooManyPixels)}
# One thread, because a process with more cannot fork; and what is freed goes back to the system, as in the service.
_ENVIRONMENT = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
_ENVIRONMENT |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(4 * 2**20))
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from app.artifact.decoder.confined_process import main; main(int(sys.argv[1]))"
)


class DecoderLost(OSError):
    """There is no process to decode in: the system gives none, or something ended it. The file may be a good one."""


def possible() -> bool:
    """Whether this system has what it takes: a signal to whoever holds the other end of a pipe that is closed."""
    return sys.platform == "linux"


class Confined:
    """One image in a process of its own: what its header says, then its pixels. To let go of it ends the process."""

    def __init__(self, connection: socket.socket, lifeline: int) -> None:
        self._connection: socket.socket | None = connection
        self._lifeline = lifeline
        self._lock = threading.Lock()
        self._kept = ""  # the kind of the file, for a refusal

    def __del__(self) -> None:
        self.close()

    def end(self) -> None:
        """Kill the process, which closes its end of the connection: who waits for an answer waits no more. Once is
        enough; from any thread."""
        with self._lock:
            lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    def handed_on(self) -> "Confined | None":
        """The process, for another image: whoever ends this one then ends nothing. None where it has ended."""
        with self._lock:
            if self._lifeline < 0 or self._connection is None:
                return None
            handed_on = Confined(self._connection, self._lifeline)
            self._connection, self._lifeline = None, -1
        return handed_on

    def close(self) -> None:
        """End it, where nobody waits for an answer."""
        self.end()
        if self._connection is not None:
            self._connection.close()

    def begin(self, kind: str, data: bytes, spec: InputSpec | Preview, max_pixels: int) -> bool:
        """Hand over a file. Whether somebody has taken it."""
        self._kept = kind
        assert self._connection is not None
        self._connection.settimeout(_WALL_SECONDS)
        try:
            send(self._connection, pickle.dumps((spec, max_pixels)), data)
            return self._connection.recv(1) == b"+"
        except OSError:
            return False

    def header(self) -> dict[str, Any]:
        """kind, size, scale and memory. Raises ImageError."""
        return self._answer()[0]

    def pixels(self) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """Geometry and kind, and uint8[H, W, 3]; the process is there for another image. Raises ImageError."""
        assert self._connection is not None
        with suppress(OSError):  # it has ended, which shows below
            self._connection.sendall(b"+")
        said, content = self._answer()
        pixels = np.frombuffer(content, np.uint8).reshape(said["shape"])
        processes().keep(self)
        return said, pixels

    def _answer(self) -> tuple[dict[str, Any], bytearray]:
        assert self._connection is not None
        try:
            said, content = json.loads(receive(self._connection)), receive(self._connection)
        except OSError as error:  # it was killed: by its limits, or by `end`
            self.close()
            raise BrokenImage(
                f"the {self._kept} file cannot be decoded: it takes more time than any image of its size"
            ) from error
        if kind := said.get("error"):
            if said["stay"]:
                processes().keep(self)
            else:
                self.close()
            if kind not in _ERRORS:
                raise RuntimeError(f"in the decoder's process: {said['text']}")
            raise _ERRORS[kind](said["text"])
        return said, content


class Processes:
    """The process that forks, and the forked ones that wait for another image. For all threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Confined] = []
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def inspect(
        self, kind: str, data: bytes, spec: InputSpec | Preview, max_pixels: int, stop: Stop | None
    ) -> tuple[Confined, dict[str, Any]]:
        """A process that has read the file's header, and what that says. Raises ImageError, DecoderLost or Stopped."""
        for again in range(_MOST_IDLE + 3):
            confined = self._take(new=again >= _MOST_IDLE + 1)
            if stop:
                stop.act(confined.end)
            if confined.begin(kind, data, spec, max_pixels):
                try:
                    return confined, confined.header()
                except ImageError:
                    if stop and stop.is_set:
                        raise Stopped from None
                    raise
            confined.close()
            if stop and stop.is_set:
                raise Stopped
        raise DecoderLost("no process can be started to decode in")

    def keep(self, confined: Confined) -> None:
        """For the next image."""
        if handed_on := confined.handed_on():
            with self._lock:
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(handed_on)
                    return
            handed_on.close()

    def _take(self, new: bool) -> Confined:
        """An idle process, or one more, where need be of another process that forks. Raises DecoderLost."""
        with self._lock:
            if self._idle and not new:
                return self._idle.pop()
            try:
                if self._control is None or new:
                    self._start()
                try:
                    return self._fork()
                except OSError:  # it was killed
                    self._start()
                    return self._fork()
            except OSError as error:  # no process, descriptor or memory more
                raise DecoderLost(f"no process can be started to decode in: {error}") from error

    def _fork(self) -> Confined:
        mine, theirs = socket.socketpair()
        their_end, my_end = os.pipe()
        confined = Confined(mine, my_end)
        try:
            assert self._control is not None
            socket.send_fds(self._control, [b"+"], [theirs.fileno(), their_end])
        except OSError:
            confined.close()
            raise
        finally:
            theirs.close()
            os.close(their_end)
        return confined

    def _start(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        mine, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  # this code, by this interpreter
                    [sys.executable, "-S", "-c", _START, str(theirs.fileno()), _ROOT, *sys.path],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **_ENVIRONMENT},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            except OSError:
                mine.close()
                raise
        self._control = mine
        weakref.finalize(self, _end, self._idle, self._control, self._process, os.getpid())


def _end(idle: list[Confined], control: socket.socket, process: "subprocess.Popen[bytes]", owner: int) -> None:
    """When this process ends. They do so by themselves when nobody holds the other end any more."""
    for each in idle:
        each.close()
    idle.clear()
    control.close()
    if os.getpid() != owner:  # a fork of it, whose child it is not
        process.returncode = 0
        return
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processes() -> Processes:
    """This process's: what another one has forked off is not for its copies."""
    return _of(os.getpid())


@lru_cache(maxsize=1)
def _of(_pid: int) -> Processes:
    return Processes()


def send(connection: socket.socket, *parts: bytes) -> None:
    """Each with its length, small ones together: each piece wakes who waits for it."""
    *small, last = parts
    head = b"".join(_LENGTH.pack(len(part)) + part for part in small) + _LENGTH.pack(len(last))
    if len(last) <= _TOGETHER:
        connection.sendall(head + last)
    else:
        connection.sendall(head)
        connection.sendall(last)


def receive(connection: socket.socket) -> bytearray:
    """One part. Raises OSError where the other side has ended."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytearray:
    content, place = bytearray(length), 0
    view = memoryview(content)
    while place < length:
        if not (count := connection.recv_into(view[place:])):
            raise ConnectionResetError("the other side has ended")
        place += count
    return content
