"""The Docker command line, and containers that are gone when their test is."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGE = "sightglass"


def docker(*words: str, stdin: bytes | None = None, check: bool = True) -> str:
    """What a docker command prints, on both streams: containers log to stderr."""
    done = subprocess.run(
        ["docker", *words], cwd=ROOT, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode()
    assert not check or done.returncode == 0, said
    return said


def until(true: Callable[[], object], seconds: float, otherwise: Callable[[], str]) -> None:
    """Wait until `true()`; after `seconds` fail with what `otherwise()` says."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.02)


@dataclass(frozen=True)
class Container:
    """A container that was started; it may have stopped by now."""

    name: str

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.name))[0]
        return found

    def logs(self) -> str:
        return docker("logs", self.name)

    def wait_until_healthy(self, seconds: float = 30) -> None:
        until(lambda: self.inspect()["State"]["Health"]["Status"] == "healthy", seconds, self.logs)

    def url(self) -> str:
        """Of the port that is published on this machine."""
        return f"http://{docker('port', self.name, '8000').split()[0]}"

    def python(self, code: str, stdin: bytes = b"") -> str:
        """What a Python program prints that runs inside, as the service's user."""
        return docker("exec", "-i", self.name, "python", "-c", code, stdin=stdin)


@contextmanager
def container(*options: str, image: str = IMAGE) -> Iterator[Container]:
    """`docker run -d OPTIONS IMAGE`."""
    name = f"sightglass-smoke-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "--detach", "--name", name, *options, image)
        yield Container(name)
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
