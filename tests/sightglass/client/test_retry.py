"""The client's judgement, without a network: what an answer means and how long to wait."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from sightglass.client.errors import ClientError, UnexpectedAnswer
from sightglass.client.responses import Prediction
from sightglass.client.retry import Call, Service


def call(seconds: float = 1000.0) -> Call[Prediction]:
    return Call(Service("http://localhost", None), "/predict", Prediction.of, seconds, image=b"image")


def waits(headers: dict[str, str], attempts: int = 1, status: int = 503) -> list[float]:
    """What 200 calls wait after so many failed attempts."""
    found = []
    for _ in range(200):
        made = call()
        for _ in range(attempts):
            wait = made.settle(httpx2.Response(status, headers=headers))
        assert wait is not None
        found.append(wait)
    return found


def test_without_a_header_the_wait_is_anything_up_to_a_bound_that_doubles_and_is_capped() -> None:
    for attempts, bound in ((1, 0.5), (2, 1.0), (4, 4.0), (5, 8.0), (9, 8.0), (60, 8.0)):
        found = waits({}, attempts)
        assert max(found) <= bound
        assert max(found) > bound * 0.9, "up to the bound"
        assert min(found) < bound * 0.1, "and down to nothing: full jitter"


def test_with_a_header_the_wait_is_never_shorter_and_others_come_at_other_times() -> None:
    for attempts in (1, 8):
        found = waits({"Retry-After": "3"}, attempts, 429)
        assert 3 <= min(found) < 3.3
        assert 5.7 < max(found) <= 6


def test_the_header_may_be_a_date() -> None:
    (least, *_) = sorted(
        waits({"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)})
    )
    assert 18 < least < 21


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5", "9" * 50, "Mon, 99 Foo 2026", "Mon, 01 Jan 99999999999 00:00:00 GMT", "²"]
)
def test_a_header_that_says_nothing_is_none(value: str) -> None:
    raw = [(b"Retry-After", value.encode())]
    assert max(call().settle(httpx2.Response(503, headers=raw)) or 0 for _ in range(50)) <= 0.5


def test_a_date_that_is_over_is_no_wait() -> None:
    assert max(waits({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})) <= 0.5


def test_no_wait_goes_beyond_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnexpectedAnswer):
        call(seconds=2).settle(httpx2.Response(503, headers={"Retry-After": "2"}))
    assert call(seconds=5).settle(httpx2.Response(503, headers={"Retry-After": "2"})) is not None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422, 500, 501, 504])
def test_what_would_be_the_same_again_is_not_asked_again(status: int) -> None:
    with pytest.raises(ClientError) as caught:
        call().settle(httpx2.Response(status, headers={"Retry-After": "1"}))
    assert not caught.value.temporary


def test_the_time_that_is_left_is_the_time_of_the_next_attempt() -> None:
    made = call(seconds=3)
    first: dict[str, Any] = made.attempt()
    assert (first["timeout"].connect, first["timeout"].read) == (pytest.approx(3, abs=2), pytest.approx(3, abs=2))
    assert call(seconds=100).attempt()["timeout"].connect == 5
    made._deadline = time.monotonic() + 100
    second = made.attempt()
    assert second["timeout"].read == pytest.approx(100, abs=10)
    assert 90_000 < int(second["headers"]["X-Request-Timeout-Ms"]) <= 100_000
    assert first["headers"]["X-Request-ID"] == second["headers"]["X-Request-ID"]


def test_a_user_and_password_are_no_part_of_an_address_and_are_in_no_message() -> None:
    for url in ("http://me:secret@localhost:8000", "http://secret@localhost", "http://me:secret@localhost:port"):
        with pytest.raises(ValueError, match="address") as caught:
            Service(url, "a-key-of-the-service")
        assert "secret" not in str(caught.value)


def test_a_time_without_end_is_one_that_sockets_and_the_service_can_count() -> None:
    attempt = call(seconds=1e13).attempt()
    with socket.socket() as any_socket:
        any_socket.settimeout(attempt["timeout"].read)
    assert len(attempt["headers"]["X-Request-Timeout-Ms"]) <= 15
