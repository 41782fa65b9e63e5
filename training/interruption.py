"""What ends a command from outside, Ctrl-C, a container, a queue, a closed terminal: it cleans up and says so."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from training.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.05
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def heard(handler: Handler) -> Iterator[None]:
    """Call `handler` for each of SIGNALS, but for those that this process was started to ignore (nohup, a script's
    background jobs). As the first process of a container it would otherwise not even be told."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    replaced = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in replaced:
        signal.signal(number, handler)
    hook = sys.unraisablehook

    def send_again(lost: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised in a weak reference's callback or in __del__, where a signal may find it."""
        if isinstance(lost.exc_value, Stopped):
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), lost.exc_value.number))
            again.daemon = True
            again.start()
        else:
            hook(lost)

    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, old in replaced.items():
            signal.signal(number, old)


def stop(number: int, _frame: FrameType | None) -> None:
    """A handler: raises Stopped wherever the command is, so that what is half written is removed on the way out."""
    raise Stopped(f"stopped{name(number)}", number)


def name(number: int) -> str:
    """` by SIGTERM`; nothing for Ctrl-C, which the user knows of."""
    return "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"


@contextmanager
def after_this_batch(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """The first signal is said, and the yielded function is true from then on; the second raises Stopped, as does
    whoever saw that it is."""
    by = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal by
        if by:
            stop(number, frame)
        by = number
        say(f"stopping{name(number)} after this batch{'; Ctrl-C again stops now' if number == signal.SIGINT else ''}")

    with heard(note):
        try:
            yield lambda: bool(by)
        except Stopped as stopped:
            raise Stopped(f"stopped{name(by)}", by or stopped.number) from stopped
