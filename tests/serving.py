"""A real server process, as a user would start it, and its answers."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from app.errors import PROBLEMS

_LISTENING = re.compile(r"Uvicorn running on (?:unix socket )?(\S+)")


@dataclass
class Server:
    """`url` without a trailing slash; `log` is the file that stderr goes to, of which `skipped` lines are others'."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    skipped: int = 0

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()[self.skipped :]

    def from_here(self) -> "Server":
        """The same for somebody else, who sees what it logs from now on."""
        return replace(self, skipped=len(self.log.read_text().splitlines()))

    def workers(self) -> list[int]:
        """Process ids; of a lone worker none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def page_faults(self) -> int:
        """Pages that the kernel has had to find or to clear, none of them on a disk."""
        return int(Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[7])


def environment(artifact: Path, **settings: object) -> dict[str, str]:
    """This process's environment with SIGHTGLASS_ settings, a free port and two cores' worth of threads."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTGLASS_")}
    wanted = {"MODEL": artifact, "PORT": 0, "WORKERS": 1} | settings
    return clean | {f"SIGHTGLASS_{name}": str(value) for name, value in wanted.items()}


@contextmanager
def serving(artifact: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """`python -m app` on a free port, ready to answer; stopped with SIGTERM at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"], env=environment(artifact, **settings), stderr=stderr, stdout=stderr
        )
    try:
        yield Server(wait_until_listening(process, log), process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        text = log.read_text()
        found = _LISTENING.search(text)
        if found and "Application startup complete" in text:
            return found[1]
        assert process.poll() is None, f"the server stopped: {text}"
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {log.read_text()}")


def metrics(url: str) -> str:
    """/metrics with what all workers have counted, which they write ten times a second."""
    time.sleep(0.3)
    return httpx2.get(f"{url}/metrics").text


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, object]:
    """The response is exactly this problem, in the one shape that all errors have."""
    body: dict[str, object] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["title"] == PROBLEMS[code].title
    assert body["request_id"] == response.headers["x-request-id"]
    assert str(body["type"]).endswith(f"/docs/errors#{code}")
    return body


def connect(server: Server) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def ended(artifact: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """A service that must not start: how it ended, and what it said."""
    return subprocess.run(
        [sys.executable, "-m", "app"],
        env=environment(artifact, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
