"""All attacks at once, and that others do not notice."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.app.server.flood import FILE, HELLO, MB, flood
from tests.serving import Server, connect, environment


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("connections", "most_seconds"), [(200, 2.0), pytest.param(2_000, 0.1, marks=pytest.mark.slow)]
)
def test_health_answers_throughout_and_memory_does_not_grow(  # four attacks at once
    digits_artifact: Path, tmp_path: Path, connections: int, most_seconds: float
) -> None:
    """Half heads, an endless one, a log that nobody reads and offers of HTTP/2, all at once. `slow`: at full size."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"], env=environment(digits_artifact, THREADS=1), stderr=writer
    )
    os.close(writer)
    said = b""
    while b"startup complete" not in said:
        said += os.read(reader, 65_536)
    url = re.findall(rb"running on (\S+)", said)[0].decode()
    server, over = Server(url, process, tmp_path), threading.Event()
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Length: %d\r\n\r\n%b" % (len(FILE), FILE)
    statuses: list[bytes] = []

    def offering(times: int) -> None:
        with connect(server) as client:
            for _ in range(times):
                client.sendall(post)
                statuses.append(client.recv(65_536)[9:12])

    def endless() -> None:
        with connect(server) as client:
            flood(client, HELLO + b"X: ", b"a" * MB, connections * MB // 2)

    seconds: list[float] = []

    def watching() -> None:
        with httpx2.Client(base_url=url, timeout=30) as client:
            while not over.wait(0.02):
                began = time.perf_counter()
                assert client.get("/health").status_code == 200
                seconds.append(time.perf_counter() - began)

    try:
        with ThreadPoolExecutor(32) as pool:  # what the load itself takes
            list(pool.map(offering, [50] * 32))
        before = server.resident_bytes()
        watcher = threading.Thread(target=watching)
        watcher.start()
        with contextlib.ExitStack() as held:
            for _ in range(connections):
                held.enter_context(connect(server)).sendall(HELLO + b"X: ")
            threads = [threading.Thread(target=offering, args=(connections // 4,)) for _ in range(32)]
            threads.append(threading.Thread(target=endless))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            grown = server.resident_bytes() - before
        over.set()
        watcher.join()
    finally:
        process.terminate()
        process.wait(30)
        os.close(reader)
    print(f"slowest of {len(seconds)}: {max(seconds) * 1e3:.0f} ms; memory +{grown / MB:.1f} MB")  # noqa: T201
    assert set(statuses) == {b"200"}
    assert grown < 20 * MB
    assert len(seconds) > 5
    assert max(seconds) < most_seconds, sorted(seconds)[-10:]
