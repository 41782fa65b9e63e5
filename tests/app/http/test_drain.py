"""SIGTERM: nobody who was let in is turned away, and everybody else is told in time."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.images import drawing, encode
from tests.serving import Server, environment, serving


def healthcheck(server: Server) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.server.healthcheck"],
        env=os.environ | {"SIGHTGLASS_PORT": server.url.rsplit(":", 1)[1]},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


def exit_code(server: Server, within: float) -> int:
    return server.process.wait(timeout=within)


@pytest.mark.parametrize("workers", [1, 2])
def test_while_draining_the_service_answers_and_sends_everybody_away(
    digits_artifact: Path, tmp_path: Path, workers: int
) -> None:
    with serving(digits_artifact, tmp_path, DRAIN_MS=60_000, WORKERS=workers) as server:
        with httpx2.Client(base_url=server.url) as before:
            assert "connection" not in before.post("/predict", content=encode(drawing())).headers
            assert healthcheck(server).returncode == 0
            server.process.send_signal(signal.SIGTERM)
            _until(lambda: httpx2.get(f"{server.url}/health/ready").status_code == 503)
            assert httpx2.get(f"{server.url}/health").json()["detail"] == "Stopping."
            assert httpx2.get(f"{server.url}/health/live").status_code == 200  # a restart would help nobody
            answer = before.post("/predict", content=encode(drawing()))
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
            failed = healthcheck(server)
            assert failed.returncode == 1
            assert "Stopping." in failed.stderr
        for pid in (*server.workers(), server.process.pid):
            os.kill(pid, signal.SIGINT)  # or it would take the whole minute
        assert exit_code(server, within=30) == 0
        refused = healthcheck(server)
        assert refused.returncode == 1
        assert refused.stderr.startswith("no answer: ")
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sigterm_to_the_whole_process_group_drains_like_any_other(
    digits_artifact: Path, tmp_path: Path, workers: int
) -> None:
    """systemd and shells do that: each worker hears it from the group and from its parent."""
    with serving(digits_artifact, tmp_path, DRAIN_MS=2000, WORKERS=workers) as server:
        started = time.monotonic()
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        for pid in (server.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGTERM)
        assert exit_code(server, within=30) == 0
        assert time.monotonic() - started > 1.8
        assert "drain  not ready any more" in server.log.read_text()


def test_without_a_drain_time_sigterm_stops_at_once(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path) as server:
        server.process.send_signal(signal.SIGTERM)
        assert exit_code(server, within=30) == 0


def test_a_lone_worker_that_is_stopped_ends_as_a_program_does(digits_artifact: Path, tmp_path: Path) -> None:
    ended, log = tmp_path / "ended", tmp_path / "log"
    program = "import atexit, pathlib, sys\nfrom app.__main__ import main\n"
    program += f"atexit.register(pathlib.Path({str(ended)!r}).touch)\nsys.exit(main())"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", program], env=environment(digits_artifact), stderr=stderr)
    with _ended(process):
        _until(lambda: "startup complete" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert ended.exists()


def test_ctrl_c_does_not_drain(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, DRAIN_MS=60_000) as server:
        server.process.send_signal(signal.SIGINT)
        assert exit_code(server, within=30) == 0


def test_sigterm_during_start_up_is_not_ignored(digits_artifact: Path, tmp_path: Path) -> None:
    """PID 1 has no default action for it: whoever installs no handler waits to be killed."""
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        measured = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")  # coverage has a handler of its own
        clean = {name: value for name, value in environment(digits_artifact).items() if name not in measured}
        process = subprocess.Popen([sys.executable, "-m", "app"], env=clean, stderr=stderr)
    handled = 1 << (signal.SIGTERM - 1)
    with _ended(process):
        _until(lambda: int(_status(process.pid, "SigCgt"), 16) & handled)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert "startup complete" not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_under_load_no_accepted_request_is_lost(digits_artifact: Path, tmp_path: Path, workers: int) -> None:
    """16 clients on keep-alive connections that go elsewhere when told to, as a proxy does."""
    file, all_began = encode(drawing()), threading.Barrier(17)

    def client(number: int) -> int:
        answered = 0
        with httpx2.Client(base_url=server.url, timeout=30) as connection:
            while True:
                if answered == 1:
                    all_began.wait(60)
                answer = connection.post("/predict", content=file)
                assert answer.status_code == 200, answer.text
                answered += 1
                if answer.headers.get("connection") == "close":
                    return answered

    with (
        serving(digits_artifact, tmp_path, DRAIN_MS=4000, WORKERS=workers) as server,
        ThreadPoolExecutor(16) as pool,
    ):
        clients = [pool.submit(client, number) for number in range(16)]
        all_began.wait(60)
        server.process.send_signal(signal.SIGTERM)
        answered = [future.result(timeout=60) for future in clients]
        assert min(answered) >= 2
        assert exit_code(server, within=30) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_on_their_way_in_when_the_port_closes_are_answered(
    digits_artifact: Path, tmp_path: Path, workers: int
) -> None:
    file = encode(drawing())
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file)}\r\n\r\n".encode()
    with serving(digits_artifact, tmp_path, WORKERS=workers) as server:
        host, port = server.url.removeprefix("http://").split(":")
        halves = [socket.create_connection((host, int(port)), timeout=10) for _ in range(20)]
        for half in halves:
            half.sendall(head + file[:100])
        metrics = f"{server.url}/metrics"
        _until(lambda: "sightglass_http_requests_in_progress 21.0" in httpx2.get(metrics).text)  # with this one
        counted_in = {folder for worker in server.workers() for folder in _metrics_folders(worker)}
        assert len(counted_in) == (workers > 1)
        server.process.send_signal(signal.SIGTERM)
        for half in halves:
            half.sendall(file[100:])
        for half in halves:
            assert half.recv(10_000).startswith(b"HTTP/1.1 200")
            half.close()
        assert exit_code(server, within=30) == 0
        assert server.log.read_text().count("stop   stopped") == workers
        assert not [folder for folder in counted_in if folder.exists()]


def _metrics_folders(pid: int) -> set[Path]:
    open_files = {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    return {path.parent for path in open_files if path.parent.name.startswith("sightglass-metrics-")}


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in here, it is not left behind."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _until(true: object, seconds: float = 30) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
