"""`python -m app.server.healthcheck`: exit 0 while /health/ready says 200. The container has no curl."""

import http.client
import os
import socket
import sys


def main() -> int:
    """Ask the service of this container; says on stderr what is wrong."""
    # no import of app.settings: pydantic would cost a fifth of a second at every check
    host, port = os.environ.get("SIGHTGLASS_HOST", "127.0.0.1"), int(os.environ.get("SIGHTGLASS_PORT", "8000"))
    every = host in ("0.0.0.0", "::", "[::]", "*")  # noqa: S104  # not bound here
    connection = http.client.HTTPConnection("localhost" if every else host.strip("[]"), port, timeout=2)
    try:
        if path := os.environ.get("SIGHTGLASS_UDS"):
            connection = http.client.HTTPConnection("localhost", timeout=2)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(2)
            connection.sock.connect(path)
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        said = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}", file=sys.stderr)  # noqa: T201  # `docker inspect` keeps what a check prints
        return 1
    if answer.status != 200:
        print(said, file=sys.stderr)  # noqa: T201
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
