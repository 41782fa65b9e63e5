"""A log on stderr that never waits for whoever reads it: what nobody reads must not stop what it is the log of."""

import logging
import multiprocessing.util
import os
import select
import socket
import stat
import threading
from collections import deque
from collections.abc import Callable

_KEPT_BYTES = 1_000_000  # some 8,000 lines, for a reader that is busy for a moment
_FLUSH_SECONDS = 1.0  # at the end
_STDERR = 2
Write = Callable[[bytes], int]


class PatientHandler(logging.Handler):
    """What cannot be written at once is kept, up to a megabyte, and written by a thread; lines beyond it are counted.

    When all that was kept has been read, a record says how many lines were dropped, and the log goes on.
    """

    def __init__(self, told: Callable[[int], logging.LogRecord], descriptor: int = _STDERR) -> None:
        """`told`: the record that says how many lines were dropped."""
        super().__init__()
        self._told = told
        self._given = descriptor
        self._write, self._write_later, self._descriptor = _writers(descriptor)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = self._dropped = 0
        self._changed = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        # of a worker as well, which ends without what logging does at the end of a program
        multiprocessing.util.Finalize(None, self.flush, exitpriority=0)

    def take_over(self) -> None:
        """From now on nothing of this process waits there: libraries in C write to it past every handler, libtiff a
        line for each damaged file. What finds no room then is lost, and not counted. A socket stays as it is."""
        if not stat.S_ISSOCK(os.fstat(self._given).st_mode):
            os.dup2(self._descriptor, self._given)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or keep it, or count it; logging holds the lock."""
        try:
            text = self._encoded(record)
        except Exception:  # it has other arguments than its text wants
            self.handleError(record)
            return
        if not self._thread:
            text = self._written(text)
        if text:
            self._keep(text)

    def flush(self) -> None:
        """Wait for what is kept, a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._thread, _FLUSH_SECONDS)

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _written(self, text: bytes) -> bytes:
        """What of it is still to be written."""
        try:
            while text:
                text = text[self._write(text) :]
        except BlockingIOError:
            return text
        except OSError:  # its reader has left for good, or the disk is full
            return b""
        return text

    def _keep(self, text: bytes) -> None:
        if self._dropped or self._kept_bytes + len(text) > _KEPT_BYTES:
            self._dropped += text.count(b"\n")
            return
        self._kept.append(text)
        self._kept_bytes += len(text)
        if not self._thread:
            self._thread = threading.Thread(target=self._catch_up, name="stderr", daemon=True)
            self._thread.start()

    def _catch_up(self) -> None:
        """Until nothing is kept; what waits here holds no lock."""
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        while text := self._next():
            while text:
                room.poll()
                try:
                    text = text[self._write_later(text) :]
                except BlockingIOError:  # another process was quicker
                    continue
                except OSError:
                    break

    def _next(self) -> bytes:
        """What is to be written next; empty at the end of the thread."""
        with self._changed:
            if not self._kept and self._dropped:
                dropped, self._dropped = self._dropped, 0
                return self._encoded(self._told(dropped))
            if self._kept:
                text = self._kept.popleft()
                self._kept_bytes -= len(text)
                return text
            self._thread = None
            self._changed.notify_all()
            return b""


def _writers(descriptor: int) -> tuple[Write, Write, int]:
    """What writes as much as it can without waiting, and raises BlockingIOError for nothing; the same for the thread,
    which may wait; and the descriptor that they write to.

    O_NONBLOCK is of the open file, which a shell and other processes share: so a pipe or terminal is opened once more.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):  # systemd's
        shared = socket.socket(fileno=os.dup(descriptor))

        def send(text: bytes) -> int:
            return shared.send(text, socket.MSG_DONTWAIT)

        return send, send, shared.fileno()

    def wait(text: bytes) -> int:
        return os.write(descriptor, text)

    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return wait, wait, descriptor  # a file: nobody has to read it
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # no /proc, or another user's pipe

        def never(_text: bytes) -> int:
            raise BlockingIOError

        return never, wait, descriptor

    def write(text: bytes) -> int:
        return os.write(own, text)

    return write, write, own
