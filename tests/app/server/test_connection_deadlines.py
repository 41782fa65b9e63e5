"""Connections that owe us something are given so long, and give way where descriptors become scarce."""

import contextlib
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.app.server.flood import FILE, HELLO, answer_of
from tests.serving import Server, connect, environment, problem, serving


@pytest.fixture(scope="module")
def impatient(digits_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(digits_artifact, tmp_path_factory.mktemp("impatient"), HEADER_TIMEOUT_MS=1000) as server:
        yield server


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", None), (b"G", 408), (HELLO, 408), (HELLO + b"X: ", 408), (b"\r\n", 408)],
    ids=["nothing", "one byte", "half", "half a line", "an empty line"],
)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "second"])
def test_a_head_that_is_not_complete_in_time_ends_its_connection(
    impatient: Server, sent: bytes, status: int | None, behind: bool
) -> None:
    if behind and not sent:
        pytest.skip("that is a connection that is kept for the next request")
    with connect(impatient) as client:
        if behind:
            client.sendall(HELLO + b"\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        began, trickled = time.monotonic(), threading.Event()

        def trickle() -> None:  # a byte now and then gives no more time
            while sent.endswith(b": ") and not trickled.wait(0.2):
                with contextlib.suppress(OSError):
                    client.send(b"a")

        thread = threading.Thread(target=trickle)
        client.sendall(sent)
        thread.start()
        if status:
            told = problem(answer_of(client), status, "request_timeout")
            assert "1 s" in str(told["detail"])
        else:
            assert client.recv(100) == b""
        trickled.set()
        thread.join()
        assert 0.9 < time.monotonic() - began < 15


def test_a_connection_that_is_kept_and_a_slow_body_are_given_longer(impatient: Server) -> None:
    with connect(impatient) as kept, connect(impatient) as slow:
        kept.sendall(HELLO + b"\r\n")
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(FILE), FILE[:9]))
        assert kept.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(3)  # three times the time for a head
        kept.sendall(HELLO + b"\r\n")
        slow.sendall(FILE[9:])
        assert kept.recv(65_536).startswith(b"HTTP/1.1 200")
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sent", [b"", HELLO, HELLO + b"\r\n", b"GET\r\n\r\n"], ids=["none", "half", "kept", "refused"])
def test_connections_beyond_the_descriptors_keep_nobody_out(
    digits_artifact: Path, tmp_path: Path, sent: bytes, workers: int
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    program = (
        "import resource, sys\nfrom app.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\nsys.exit(main())"
    )
    log = tmp_path / "log"
    assert hard >= 1_000
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment(digits_artifact, WORKERS=workers), stderr=stderr
        )
    try:
        while log.read_text().count("startup complete") < workers:
            assert process.poll() is None
            time.sleep(0.05)
        url = re.findall(r"running on (\S+)", log.read_text())[0]
        server = Server(url, process, log)
        with contextlib.ExitStack() as held:
            for _ in range(250 * workers):
                client = held.enter_context(connect(server))
                with contextlib.suppress(OSError):  # an earlier one may have had to give way, never this one
                    client.sendall(sent)
            for _ in range(20):
                began = time.monotonic()
                assert httpx2.get(f"{url}/health", timeout=10).status_code == 200
                assert httpx2.post(f"{url}/predict", content=FILE, timeout=10).status_code == 200
                assert time.monotonic() - began < 5
        assert "Traceback" not in log.read_text()
    finally:
        process.terminate()
        process.wait(30)


def test_the_limit_of_descriptors_is_raised(server: Server) -> None:
    soft, hard = next(
        line.split()[3:5]
        for line in Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
        if "open files" in line
    )
    assert int(soft) == min(int(hard), 65_536)
