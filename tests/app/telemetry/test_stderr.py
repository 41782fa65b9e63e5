"""A log that nobody reads: nothing waits for it, and what is missing is said."""

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from app.telemetry.stderr import PatientHandler
from tests.serving import environment

_LINES = 40_000  # of 100 bytes: four times what is kept


def _notice(lines: int) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": f"dropped {lines}"})


def _handler(descriptor: int) -> tuple[PatientHandler, logging.Logger]:
    handler, logger = PatientHandler(_notice, descriptor), logging.Logger("test")
    logger.addHandler(handler)
    return handler, logger


def _sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return theirs.detach(), ours.detach()


@pytest.mark.parametrize("ends", [os.pipe, _sockets, os.openpty], ids=["pipe", "socket", "terminal"])
def test_lines_that_nobody_reads_are_kept_then_counted_and_the_log_goes_on(ends: Callable[[], tuple[int, int]]) -> None:
    reader, writer = ends()
    handler, logger = _handler(writer)
    began = threading.Event()

    def write() -> None:
        for number in range(_LINES):
            logger.error("%06d %s", number, "x" * 92)
        began.set()

    threading.Thread(target=write, daemon=True).start()
    assert began.wait(30), "it waits for its reader"
    told = _read_until(reader, b"dropped").replace("\r\n", "\n").splitlines()
    logger.error("and on")
    assert "and on" in _read_until(reader, b"and on")
    kept = [int(line[:6]) for line in told if not line.startswith("dropped")]
    assert kept == list(range(len(kept)))  # in order, and none torn
    assert 8_000 < len(kept) < _LINES
    assert told[-1] == f"dropped {_LINES - len(kept)}"
    os.close(reader)
    os.close(writer)
    del handler


def test_of_a_reader_that_is_busy_for_a_moment_nothing_is_lost() -> None:
    reader, writer = os.pipe()
    handler, logger = _handler(writer)
    for number in range(3_000):
        logger.error("%06d %s", number, "x" * 92)
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.append(_read_until(reader, b"002999")))
    reading.start()
    handler.flush()
    reading.join(10)
    assert [int(line[:6]) for line in read[0].splitlines()] == list(range(3_000))
    os.close(reader)
    os.close(writer)


def test_the_shells_own_descriptor_still_waits() -> None:
    reader, writer = os.pipe()
    _handler(writer)
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


def test_what_writes_past_the_log_does_not_wait_either() -> None:
    """As libtiff does for each damaged file: one of its threads that waits for ever is a decoder less."""
    code = """
import os
from app.telemetry import logs
logs.configure("text")
try:
    while True:
        os.write(2, bytes(4096))
except BlockingIOError:
    print("lost")
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unread:
        try:
            assert unread.stdout
            assert unread.stdout.readline() == b"lost\n"
        finally:
            unread.kill()


def test_a_file_is_appended_to_where_others_write(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.write(b"before\n")
        file.flush()
        _handler(file.fileno())[1].error("line")
        file.write(b"after\n")
    assert (tmp_path / "log").read_text() == "before\nline\nafter\n"


def test_a_reader_that_is_gone_stops_nothing_and_the_end_waits_a_second_at_most() -> None:
    reader, writer = os.pipe()
    handler, logger = _handler(writer)
    os.close(reader)
    logger.error("to nobody")
    reader, writer = os.pipe()
    handler, logger = _handler(writer)
    for _ in range(3_000):
        logger.error("x" * 99)
    began = time.monotonic()
    handler.flush()
    assert 0.5 < time.monotonic() - began < 10
    os.close(reader)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_service_whose_log_nobody_reads_answers_on_and_says_what_is_missing(
    digits_artifact: Path, tmp_path: Path, workers: int, log_format: str
) -> None:
    reader, writer = os.pipe()
    socket_path = tmp_path / "s"
    settings = {"WORKERS": workers, "LOG_FORMAT": log_format, "UDS": socket_path}
    process = subprocess.Popen(
        [sys.executable, "-m", "app"], env=environment(digits_artifact, **settings), stderr=writer
    )
    os.close(writer)
    try:
        _read_until(reader, b"startup complete", workers)
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket_path)), base_url="http://x") as client:
            for number in range(1_000):  # 100 bytes of log each, 300 as JSON
                path = "/nothing" if number % 2 else "/model"
                assert client.get(path, headers={"X-Request-ID": f"r{number}-{'x' * 50}"}, timeout=5).status_code < 500
            assert client.get("/health", timeout=1).status_code == 200
        told = _read_until(reader, b"r999-")
        assert re.findall(r"\br(\d+)-", told) == [str(number) for number in range(1_000)] or workers > 1
        process.terminate()
        assert process.wait(30) == 0
        rest = _read_until(reader, b"")
        assert rest.count("stopped") == workers
        if log_format == "json":
            assert all(json.loads(line) for line in rest.splitlines() if line.startswith("{"))
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def _read_until(reader: int, text: bytes, times: int = 1) -> str:
    """To the line's end behind `text`, or to the end of all where that is empty."""
    got = b""
    while not text or got.count(text) < times or not got.endswith(b"\n"):
        piece = os.read(reader, 65_536)
        if not piece:
            assert not text, got[-1000:]
            break
        got += piece
    return got.decode()
