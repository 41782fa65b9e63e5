"""Signals that mean nothing here: every process of the service goes on, and says so."""

import os
import time
from pathlib import Path

import httpx2
import pytest

from app.telemetry.signals import IGNORED
from tests.images import drawing, encode
from tests.serving import serving


# TorchScript's workers are spawned and not forked; one worker is the same process whatever its engine
@pytest.mark.parametrize(
    ("workers", "variant"),
    [(1, "onnx"), (2, "onnx"), (2, "torchscript"), pytest.param(1, "torchscript", marks=pytest.mark.slow)],
)
def test_they_are_ignored_and_noted_by_any_number_of_workers(
    digits_artifact: Path, tmp_path: Path, workers: int, variant: str
) -> None:
    with serving(digits_artifact, tmp_path, WORKERS=workers, VARIANT=variant) as server:
        _wait_for(server.log, "startup complete", workers)
        before = server.workers()
        for number in IGNORED:
            for pid in (server.process.pid, *before):  # as a terminal that is closed does
                os.kill(pid, number)
            _wait_for(server.log, f"{number.name} means nothing here", workers + (workers > 1))
        assert httpx2.post(f"{server.url}/predict", content=encode(drawing()), timeout=30).status_code == 200
        assert server.workers() == before


def _wait_for(log: Path, text: str, times: int) -> None:
    end = time.monotonic() + 30
    while log.read_text().count(text) < times:
        assert time.monotonic() < end, (text, log.read_text())
        time.sleep(0.02)
