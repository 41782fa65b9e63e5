"""`python -m app`."""

import os
import signal
import sys
from typing import Any


def main(overrides: dict[str, Any] | None = None) -> int:
    """Serve until a signal; returns the exit code. `overrides` beat the environment, in the workers too."""
    # First of all, because PID 1 of a container has no default action: a stop would wait to be killed.
    # _exit, because SystemExit in the middle of an import becomes whatever a C extension makes of it.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"):  # see app.telemetry.signals
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    from app.server.serve import serve  # half a second of imports

    return serve(overrides or {})


if __name__ == "__main__":
    if sys.argv[1:]:
        print("error: python -m app has no options, only settings: SIGHTGLASS_PORT=8080 python -m app", file=sys.stderr)  # noqa: T201  # no log yet
        sys.exit(2)
    sys.exit(main())
