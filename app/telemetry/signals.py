"""Signals that mean nothing here: ignored, and said in the log, whatever the number of workers."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.telemetry.logs import event

# by default each of them ends or stops a process; terminals, supervisors and log rotation send them
IGNORED = tuple(getattr(signal, f"SIG{name}") for name in ("HUP", "QUIT", "USR1", "USR2", "TTIN", "TTOU"))


def note(number: int) -> None:
    """The line of the log."""
    name = signal.Signals(number).name
    event("signal", f"{name} means nothing here and is ignored; SIGTERM ends the service", signal=name)


@contextmanager
def noted() -> Iterator[None]:
    """Say so in the log, while the running event loop runs; elsewhere than in the main thread nothing happens."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), [signal.getsignal(each) for each in IGNORED]
    for each in IGNORED:
        loop.add_signal_handler(each, note, each)
    try:
        yield
    finally:
        for each, handler in zip(IGNORED, before, strict=True):
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
