"""The servers that are compared, each a process of its own with its whole CPU time and memory in view."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """`name` as in the table; `url` without a trailing slash; `log` is the file that it writes to."""

    name: str
    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        """Of the first process, the parent of any others."""
        return self.process.pid

    def wait(self) -> None:
        """Until it answers /health; RuntimeError when it does not."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start: {self.log.read_text()[-2000:]}")

    def pids(self) -> list[int]:
        """The process and its children: workers count."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its processes."""
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / _TICKS

    def settle(self) -> None:
        """Wait until it does nothing, 20 s at most: what a generator has left behind would count in the next row."""
        before, end = -1.0, time.monotonic() + 20
        while (now := self.cpu_seconds()) > before + 1 / _TICKS and time.monotonic() < end:
            before = now
            time.sleep(0.1)

    def peak_bytes(self) -> int:
        """Peak of resident memory, summed over its processes."""
        statuses = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in self.pids()]
        return sum(int(line.split()[1]) * 1024 for lines in statuses for line in lines if line.startswith("VmHWM"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(name: str, command: list[str], environment: dict[str, str], log: Path) -> Iterator[Server]:
    """`python COMMAND`, perhaps not answering yet; `{port}` in a word is a free port."""
    port = _free_port()
    words = [sys.executable, *(word.replace("{port}", str(port)) for word in command)]
    given = {key: value.replace("{port}", str(port)) for key, value in environment.items()}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_NUM_THREADS", "SIGHTGLASS_"))}
    with log.open("wb") as out:
        process = subprocess.Popen(words, env=clean | given, stdout=out, stderr=out)
    try:
        yield Server(name, f"http://127.0.0.1:{port}", process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def running(name: str, command: list[str], environment: dict[str, str], log: Path) -> Iterator[Server]:
    """The same, answering."""
    with started(name, command, environment, log) as server:
        server.wait()
        yield server
