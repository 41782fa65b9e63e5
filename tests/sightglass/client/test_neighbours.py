"""The client where something else than the service answers, or nothing does: proxies, restarts, wrong addresses."""

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sightglass.client import ServiceError, UnexpectedAnswer, Unreachable
from tests.sightglass.client.clients import Ask, ask_async, ask_sync
from tests.sightglass.client.neighbour import MODEL, PREDICTION, RESET, SILENCE, http, neighbour

HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
PROBLEM = {"type": "x", "title": "x", "status": 429, "detail": "9 wait.", "code": "queue_full", "request_id": "theirs"}
GOOD = http(200, PREDICTION, X_Request_ID="abc")
HALF = GOOD[:-20]


@pytest.fixture(params=[ask_sync, ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr("sightglass.client.retry._FIRST_WAIT_SECONDS", 0.01)
    given: Ask = request.param
    return given


@pytest.mark.parametrize(
    "trouble",
    [
        RESET,
        HALF,
        b"",
        http(502, HTML, "text/html"),
        http(503, b"", "text/plain"),
        http(503, {"detail": "no replica"}),
        http(429, PROBLEM, "application/problem+json", Retry_After="0"),
    ],
    ids=["reset", "half an answer", "closed", "502 of a proxy", "503 of a proxy", "other JSON", "queue full"],
)
def test_what_may_be_over_soon_is_tried_again(ask: Ask, trouble: bytes) -> None:
    with neighbour(trouble, trouble, GOOD) as proxy:
        assert ask(proxy.url, "predict", b"image").prediction == "cat"
    assert len(proxy.requests) == 3
    ids = {line for head in proxy.requests for line in head.splitlines() if line.lower().startswith("x-request-id")}
    assert len(ids) == 1, "each attempt has the same id"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(404, HTML, "text/html"), "404 Not Found with text/html"),
        (http(200, HTML, "text/html"), "200 OK with text/html"),
        (http(200, {"hello": "world"}), "200 OK with application/json"),
        (http(200, b"[1, 2"), "200 OK with application/json"),
        (http(200, b"[" * 100_000), "200 OK with application/json"),
        (http(200, b"null"), "200 OK with application/json"),
        (
            http(307, Location="https://other.example/predict"),
            "307 Temporary Redirect to https://other.example/predict",
        ),
        (http(413, HTML, "text/html"), "413 "),
        (http(299, b"", ""), "299 with nothing"),
    ],
)
def test_what_no_sightglass_says_is_an_error_at_once(ask: Ask, answer: bytes, said: str) -> None:
    with neighbour(answer) as other, pytest.raises(UnexpectedAnswer) as caught:
        ask(other.url, "predict", b"image", made={"api_key": "secret"})
    assert said in caught.value.detail
    assert f"POST {other.url}/predict" in caught.value.detail
    assert (caught.value.code, len(other.requests)) == ("unexpected_answer", 1)
    assert "secret" not in repr(caught.value)


def test_an_answer_without_end_is_not_read_to_its_end(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightglass.client.retry.MAX_ANSWER_BYTES", 1000)
    with neighbour(http(200, b"1" * 2_000_000)) as other, pytest.raises(UnexpectedAnswer, match="more than"):
        ask(other.url, "predict", b"image")


def test_a_server_that_says_nothing_has_until_the_time_is_over(ask: Ask) -> None:
    with neighbour(SILENCE) as slow:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="no answer within 1 s") as caught:
            ask(slow.url, "predict", b"image", timeout=1)
        assert 0.9 < time.monotonic() - started < 20
    assert (caught.value.code, len(slow.requests)) == ("timeout", 1)
    (said,) = [line for line in slow.requests[0].splitlines() if line.lower().startswith("x-request-timeout-ms")]
    assert 1 <= int(said.split(": ")[1]) <= 1000, "the service need not work on when the client has given up"


def test_an_answer_that_trickles_has_no_more_time_than_another(ask: Ask) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" ")
                        time.sleep(0.02)
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}", "predict", b"image", timeout=1)
        assert time.monotonic() - started < 20
        thread.join()
    assert caught.value.code == "timeout"


def test_nobody_there_is_told_when_the_time_is_over(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        ask(f"http://127.0.0.1:{port}", "predict", b"image", timeout=0.3)
    assert caught.value.code == "unreachable"
    assert caught.value.detail.endswith("/predict: Connection refused.")


def test_a_full_queue_is_what_is_raised_when_the_time_does_not_allow_the_wait(ask: Ask) -> None:
    full = http(429, PROBLEM, "application/problem+json", Retry_After="3600")
    with neighbour(full) as busy, pytest.raises(ServiceError) as caught:
        ask(busy.url, "predict", b"image")
    error = caught.value
    assert (error.code, error.status, error.retry_after, error.temporary) == ("queue_full", 429, 3600, True)
    assert (error.detail, error.request_id) == ("9 wait.", "theirs")
    assert len(busy.requests) == 1


def test_a_service_that_is_not_ready_is_an_answer_to_health(ask: Ask) -> None:
    health: dict[str, Any] = {
        "status": "unavailable",
        "model": MODEL,
        "device": "cpu",
        "selftest_max_probability_difference": 1e-6,
        "warning": None,
        "detail": "Stopping.",
    }
    with neighbour(http(503, health)) as stopping:
        answer = ask(stopping.url, "health")
    assert (answer.status, answer.detail, len(stopping.requests)) == ("unavailable", "Stopping.", 1)


def test_the_key_and_the_path_go_with_every_request(ask: Ask) -> None:
    with neighbour(GOOD) as proxy:
        ask(f"{proxy.url}/animals/", "predict", b"image", top_k="all", made={"api_key": "k-1"})
    (head,) = proxy.requests
    assert head.startswith("POST /animals/predict?top_k=all HTTP/1.1\r\n")
    assert "authorization: bearer k-1" in head.lower()


def test_an_explanation_is_a_value(ask: Ask) -> None:
    document = {
        "class": "dog",
        "probability": 0.25,
        "prediction": "cat",
        "method": "class-activation",
        "picture": {"width": 60, "height": 40},
        "box": {"left": 10, "top": 0, "right": 50, "bottom": 40},
        "heatmap": [[0.5, -1], [2, 0]],
        "strongest": 4,
        "model": MODEL,
    }
    with neighbour(http(200, document)) as service:
        answer = ask(service.url, "explain", b"image", label="dog & co")
    assert service.requests[0].startswith("POST /explain?class=dog+%26+co HTTP/1.1\r\n")
    assert (answer.label, answer.prediction, answer.method) == ("dog", "cat", "class-activation")
    assert (answer.picture.width, answer.box.right, answer.heatmap) == (60, 50.0, ((0.5, -1.0), (2.0, 0.0)))
    assert answer.strongest == 4.0


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_told_at_once(ask: Ask, key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        ask("http://localhost", "health", made={"api_key": key})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, by nobody that the system knows; key and certificate in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=sightglass"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, capture_output=True, check=True
    )
    return folder


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_named(ask: Ask, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with neighbour(GOOD, tls=server) as proxy:
        with pytest.raises(Unreachable, match="certificate") as caught:
            ask(proxy.url, "predict", b"image")
        assert (caught.value.temporary, proxy.requests) == (False, [])
        trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        assert ask(proxy.url, "predict", b"image", made={"ssl_context": trusted}).prediction == "cat"
