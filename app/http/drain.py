"""SIGTERM: answer on for a while and tell everybody to go elsewhere; then close the port, finish what was accepted."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.inference.classifier import Classifier


class Drain:
    """Between SIGTERM and the end of listening. `draining`: load balancers and clients should find another replica.

    Without the pause a load balancer sends requests to a closed port until its next health check.
    """

    def __init__(self, seconds: float, begun: Callable[[], None]) -> None:
        """`seconds` from SIGTERM until the server stops listening; `begun` is called at the start of them."""
        self.draining = False
        self._seconds = seconds
        self._begun = begun

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Put the pause before the server's own reaction, in the running event loop; a second SIGTERM changes nothing.

        A worker gets two when its process group is told to stop: one from the group and one from its parent.

        Where the loop is not in the main thread no signal can be caught: nothing happens.
        """
        server_stops = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(server_stops):
            yield
            return
        loop = asyncio.get_running_loop()

        def begin() -> None:
            if not self.draining:
                self.draining = True
                self._begun()
                loop.call_later(self._seconds, server_stops, signal.SIGTERM, None)

        loop.add_signal_handler(signal.SIGTERM, begin)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, server_stops)


def why_not_ready(classifier: Classifier, drain: Drain) -> str:
    """Why images are better sent elsewhere; empty while they are welcome."""
    return classifier.why_not_ready() or ("Stopping." if drain.draining else "")
