"""What one client may cost before anybody knows who it is, and that others do not notice."""

import contextlib
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.app.batches import form
from tests.pictures import encode, picture
from tests.serving import Server, connect, environment, problem, serving

FILE = encode(picture())
MB = 1_000_000
HELLO = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer_of(client: socket.socket) -> httpx2.Response:
    """The one answer before the server closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
    return httpx2.Response(int(status.split()[1]), headers=headers, content=body)


def flood(client: socket.socket, first: bytes, piece: bytes, most_bytes: int) -> int:
    """Send on until the server closes; how many bytes it took."""
    client.sendall(first)
    taken = 0
    with contextlib.suppress(OSError):
        while taken < most_bytes:
            client.sendall(piece)
            taken += len(piece)
    return taken


# --- heads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "piece", "code"),
    [
        (HELLO + b"X: ", b"a" * 50_000, "headers_too_large"),
        (HELLO, b"X: " + b"a" * 2_000 + b"\r\n", "headers_too_large"),
        (HELLO, b"a:\r\n" * 10_000, "headers_too_large"),
        (HELLO + b"a", b"a" * 50_000, "headers_too_large"),
        (b"GET /", b"a" * 50_000, "target_too_long"),
        (b"GET", b" " * 50_000, "target_too_long"),
        (CHUNKED + b"1\r\na\r\n0\r\nX: ", b"a" * 50_000, "headers_too_large"),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"a:\r\n" * 10_000, "headers_too_large"),
        (CHUNKED + b"1;a=", b"a" * 50_000, "headers_too_large"),
        (CHUNKED + b"1\r\na\r\n", b"0" * 50_000, "headers_too_large"),
        (b"\r\n", b"\r\n" * 20_000, "headers_too_large"),
    ],
    ids=[
        "line",
        "lines",
        "many",
        "name",
        "target",
        "spaces",
        "trailer",
        "trailers",
        "extension",
        "size",
        "empty",
    ],
)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "second"])
def test_a_flood_is_refused_and_nothing_of_it_is_kept(
    server: Server, first: bytes, piece: bytes, code: str, behind: bool
) -> None:
    statuses = {"headers_too_large": 431, "target_too_long": 414, "malformed_request": 400}
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    with connect(server) as client:
        if behind:  # on a connection that has been used
            client.sendall(HELLO + b"\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        flood(client, first, piece, 5 * MB)
        problem(answer_of(client), statuses[code], code)
    assert server.resident_bytes() - before < 2 * MB


def test_a_head_behind_a_chunked_body_in_the_same_segment_has_the_same_bounds(server: Server) -> None:
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    sent = CHUNKED.replace(b"/predict", b"/nothing") + b"0\r\n\r\n" + HELLO + b"a:\r\n" * 15_000
    with contextlib.ExitStack() as open_until_the_end:
        clients = [open_until_the_end.enter_context(connect(server)) for _ in range(30)]
        for client in clients:
            client.sendall(sent)
        for client in clients:
            received = b""
            while b"headers_too_large" not in received:
                piece = client.recv(65_536)
                assert piece, received
                received += piece
        assert server.resident_bytes() - before < 5 * MB


def test_an_endless_head_is_not_read_to_its_end(server: Server) -> None:
    with connect(server) as client:
        assert flood(client, HELLO + b"X: ", b"a" * MB, 200 * MB) < 50 * MB


def test_a_head_within_the_bounds_is_answered_in_whatever_segments_it_comes(server: Server) -> None:
    sent = HELLO + b"".join([b"x-%d: %b\r\n" % (n, b"a" * 250) for n in range(200)]) + b"\r\n"
    for size in (1_000, 60_000):
        with connect(server) as client:
            for place in range(0, len(sent), size):
                client.sendall(sent[place : place + size])
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /hea lth HTTP/1.1\r\nHost: x\r\n\r\n", "expected HTTP/"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "method"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is not spoken"),
        (b"GET /\r\n\r\n", "Host is missing"),
        (b"GET / HTTP/1.1\r\n\r\n", "Host is missing"),
        (b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n", "url"),
        (b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", "url"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "Host is none"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "whitespace"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "char"),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "content-length"),
        (b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "with"),
        (CHUNKED + b"zz\r\n", "chunk size"),
        (CHUNKED + b"3\r\nabcd\r\n", "chunk data"),
    ],
)
def test_what_is_no_request_gets_a_problem_with_an_id_that_is_in_the_log(
    server: Server, sent: bytes, said: str
) -> None:
    with connect(server) as client:
        client.sendall(sent)
        answer = answer_of(client)
    told = problem(answer, 400, "malformed_request")
    assert said.lower() in str(told["detail"]).lower()
    assert answer.headers["connection"] == "close"
    end = time.monotonic() + 10
    while not any(str(told["request_id"]) in line and "malformed_request" in line for line in server.lines()):
        assert time.monotonic() < end, server.log.read_text()[-500:]
    assert "Traceback" not in server.log.read_text()
    assert 'problems_total{code="malformed_request"}' in httpx2.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("target", ["http://x", "http://x?a=b", "http://x:80", "http://x/", "//x", "/?u=http://y"])
def test_a_target_without_a_path_is_answered_and_no_traceback_is_written(server: Server, target: str) -> None:
    with connect(server) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = answer_of(client)
    assert answer.status_code == (404 if target == "//x" else 200)
    assert "Traceback" not in server.log.read_text()


def test_what_came_before_it_is_answered_first(server: Server) -> None:
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(FILE), FILE)
    with connect(server) as client:
        client.sendall(post * 2 + b"GET /hea lth HTTP/1.1\r\n\r\n")
        said = client.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"400"]


def test_trailers_are_no_headers(server: Server) -> None:
    with connect(server) as client:
        client.sendall(CHUNKED + b"3\r\nabc\r\n0\r\nX-Request-ID: evil\r\nX-API-Key: evil\r\nConnection: close\r\n\r\n")
        assert b"evil" not in client.recv(65_536)


def test_a_broken_chunk_behind_a_refusal_writes_no_traceback(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, API_KEYS="alice:0123456789abcdef") as server:
        for broken in (b"zz\r\n", b"3\r\nabcd\r\n", b"1;" + b"a" * 200_000):
            with connect(server) as client:
                client.sendall(CHUNKED + b"3\r\nabc\r\n")
                assert client.recv(65_536).startswith(b"HTTP/1.1 401")
                with contextlib.suppress(OSError):
                    client.sendall(broken)
                    assert client.recv(100) == b""
        assert httpx2.get(f"{server.url}/health/live").status_code == 200
        assert "Traceback" not in server.log.read_text()


# --- requests that wait -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"a"], ids=["without body", "with body"])
def test_requests_behind_one_that_is_answered_are_bounded_and_answered_in_order(server: Server, body: bytes) -> None:
    one = b"POST /nothing/%06d HTTP/1.1\r\nHost:\r\nX-Request-ID: n%d\r\nContent-Length: %d\r\n\r\n" + body
    sent = b"".join([one % (number, number, len(body)) for number in range(60_000)])
    httpx2.get(f"{server.url}/health/live")
    before = server.resident_bytes()
    with connect(server) as client:
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.sendall(sent)
        assert server.resident_bytes() - before < 5 * MB
        said = b""
        while said.count(b"HTTP/1.1 404") < 1_000:
            said += client.recv(65_536)
    numbers = [int(number) for number in re.findall(rb"x-request-id: n(\d+)", said)]
    assert numbers == list(range(len(numbers)))


# --- connections that wait ----------------------------------------------------------------------------------------


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


# --- uploads that stand still -------------------------------------------------------------------------------------

_FORM = form([FILE])


@pytest.mark.parametrize("sent", [0, 1, 5_000])
@pytest.mark.parametrize("path", ["/predict", "/explain", "/predict/batch", "/v2/models/digits-encoded/infer"])
def test_uploads_that_stand_still_keep_nobody_out(digits_artifact: Path, tmp_path: Path, path: str, sent: int) -> None:
    kind, body = (_FORM[0].decode(), _FORM[1]) if path.endswith("batch") else ("application/octet-stream", FILE)
    headers = {"content-type": kind, "inference-header-content-length": "0"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: 100000\r\n\r\n".encode()
    with serving(digits_artifact, tmp_path, MAX_QUEUE=16) as server, contextlib.ExitStack() as held:
        for _ in range(40):
            held.enter_context(connect(server)).sendall(head + (body + bytes(sent))[:sent])
        time.sleep(1.5)  # who has just sent something does not stand still
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            for _ in range(5):
                assert client.post(path, content=body, headers=headers).status_code == 200
            assert "sightglass_queue_images 0.0" in client.get("/metrics").text


# --- all of it ----------------------------------------------------------------------------------------------------


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
