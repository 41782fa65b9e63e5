"""Lambda's side of the function, on this machine: the Runtime API, and AWS's own client that calls the handler.

    .venv/bin/python deploy/lambda/local.py build/lambda cat.jpg [--python python3.13]

prints cold starts (process start to first answer) and warm requests. Needs `pip install awslambdaric`.
"""

import argparse
import base64
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
_API = "/2018-06-01/runtime"
_SECONDS = 60
T = TypeVar("T")


@dataclass(frozen=True)
class Posted:
    """What the client reported. `what`: response, error (of one invocation) or init/error; `content`: its JSON."""

    what: str
    content: Any


class _RuntimeApi(ThreadingHTTPServer):
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, for one process of one function."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """The client's process was stopped while it waited for an event."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoint)
        self.events: queue.Queue[bytes | None] = queue.Queue()
        self.posted: queue.Queue[Posted] = queue.Queue()
        self.asked_at: queue.Queue[float] = queue.Queue()


class _Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else 40 ms between the headers and the body of an event
    server: _RuntimeApi

    def do_GET(self) -> None:
        """`next` waits for an event; None ends the wait without one."""
        self.server.asked_at.put(time.perf_counter())
        event = self.server.events.get()
        if event is None:
            self.close_connection = True
            return
        self.send_response(200)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(event)),
            "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 29) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:sightglass",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(event)

    def do_POST(self) -> None:
        """`response` and `error` of an invocation, and `init/error`."""
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = "init/error" if self.path == f"{_API}/init/error" else self.path.rpartition("/")[2]
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.posted.put(Posted(what, content))

    def log_message(self, *_: Any) -> None:
        """The function's own log is enough."""


@dataclass
class Function:
    """A started process. `log`: the file with its stdout and stderr; `started_at`: of time.perf_counter."""

    process: subprocess.Popen[bytes]
    log: Path
    started_at: float
    _api: _RuntimeApi

    def invoke(self, event: Mapping[str, Any]) -> Posted:
        """One event, to what the client posts for it. Raises TimeoutError where it posts nothing."""
        self._api.events.put(json.dumps(event).encode())
        return self._next(self._api.posted)

    def reported(self) -> Posted:
        """What the client posts without any event: why the function cannot start."""
        return self._next(self._api.posted)

    def initialized_at(self) -> float:
        """When the client first asked for an event."""
        return self._next(self._api.asked_at)

    def _next(self, expected: "queue.Queue[T]") -> T:
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None  # before the look into the queue: it may post and end
            with suppress(queue.Empty):
                return expected.get(timeout=0.1)
            if ended:
                break
        raise TimeoutError(f"the function stopped or does not answer: {self.log.read_text()}")

    def resident_bytes(self) -> int:
        """Of the process, now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def started(
    package: Path,
    folder: Path,
    libraries: Path | None = None,
    settings: Mapping[str, object] | None = None,
    python: Sequence[str] = (sys.executable,),
) -> Iterator[Function]:
    """The function in a process with Lambda's environment: no HOME, nothing installed but `package` and the client.

    `folder` takes the log and the client; `libraries` is searched after `package`; `settings` go without SIGHTGLASS_.
    """
    client = folder / "client"
    link(CLIENT, client)
    api = _RuntimeApi()
    Thread(target=api.serve_forever, daemon=True).start()
    environment = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{platform.python_version()}",
        "AWS_LAMBDA_FUNCTION_NAME": "sightglass",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
        "LAMBDA_TASK_ROOT": str(package),
        "LANG": "en_US.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",  # there the package cannot be written to
        "PYTHONPATH": os.pathsep.join(str(path) for path in (package, libraries, client) if path),
        "TZ": ":UTC",
        **{f"SIGHTGLASS_{name}": str(value) for name, value in (settings or {}).items()},
    }
    log = folder / "function.log"
    command = [*python, "-S", "-m", "awslambdaric", "handler.handler"]  # -S: without this Python's site-packages
    begun = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=package, env=environment, stdout=out, stderr=out)  # noqa: S603
    try:
        yield Function(process, log, begun, api)
    finally:
        process.terminate()
        process.wait(timeout=_SECONDS)
        api.events.put(None)
        api.shutdown()
        api.server_close()


def link(distributions: Sequence[str], folder: Path) -> None:
    """What this Python has installed of the distributions, and nothing else, as links in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in distributions:
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))).absolute())


def request(
    method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = ""
) -> dict[str, Any]:
    """An event of format 2.0, as an HTTP API or a function URL makes it."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "accept": "*/*",
            "content-length": str(len(body)),
            "content-type": content_type,
            "host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
            "user-agent": "curl/8.5.0",
            "x-amzn-trace-id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": _request_context(method, path),
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def _request_context(method: str, path: str) -> dict[str, Any]:
    """What the gateway itself knows of a request."""
    return {
        "accountId": "123456789012",
        "apiId": "a1b2c3d4e5",
        "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
        "domainPrefix": "a1b2c3d4e5",
        "http": {
            "method": method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": "203.0.113.7",
            "userAgent": "curl/8.5.0",
        },
        "requestId": "JKJaXmPLvHcESHA=",
        "routeKey": "$default",
        "stage": "$default",
        "time": "10/Mar/2026:05:16:23 +0000",
        "timeEpoch": 1773119783186,
    }


def main() -> None:
    """Print how long a cold start and a warm request take."""
    parser = argparse.ArgumentParser(description="Time cold starts and warm requests of a built package.")
    parser.add_argument("package", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--python", default=sys.executable, help="of the version that the package was built for")
    parser.add_argument("--cold", type=int, default=7, help="how many cold starts")
    parser.add_argument("--warm", type=int, default=200, help="how many warm requests")
    wanted = parser.parse_args()
    event = request("POST", "/predict", wanted.image.read_bytes())
    inits, colds, warms, resident = [], [], [], 0
    for _ in range(wanted.cold):
        with (
            tempfile.TemporaryDirectory() as folder,
            started(wanted.package.resolve(), Path(folder), python=[wanted.python]) as function,
        ):
            inits.append(function.initialized_at() - function.started_at)
            first = function.invoke(event)
            colds.append(time.perf_counter() - function.started_at)
            if first.what != "response" or first.content["statusCode"] != 200:
                sys.exit(f"error: {first.content}")
            for _ in range(wanted.warm // wanted.cold):
                began = time.perf_counter()
                function.invoke(event)
                warms.append(time.perf_counter() - began)
            resident = function.resident_bytes()
    print(f"initialization  {_spread(inits, 's')}")  # noqa: T201
    print(f"first answer    {_spread(colds, 's')} after the start of the process")  # noqa: T201
    print(f"warm request    {_spread([each * 1e3 for each in warms], 'ms')}")  # noqa: T201
    print(f"memory          {resident / 1e6:.0f} MB resident")  # noqa: T201


def _spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} (n={len(values)}, {min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
