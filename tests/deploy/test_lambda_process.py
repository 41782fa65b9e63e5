"""The process of the Lambda function: it starts once and answers many events, or says why it cannot start."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.settings import DEFAULT_MODEL
from tests.deploy.lambda_events import JPEG, KINDS, answer, form, http_api, local, rest_api
from tests.images import drawing, encode

# --- one process, many events -------------------------------------------------------------------------------------


def test_fifty_invocations_start_the_service_once_and_keep_its_memory(function: Any) -> None:
    events = [
        kind("POST", "/predict", *body)
        for kind in KINDS.values()
        for body in (form(JPEG), (JPEG,), (b"no image",), (encode(drawing(1200, 900), "JPEG"),))
    ]
    expected = [answer(function, event)["body"] for event in events[:2]]
    before, seconds = function.resident_bytes(), []
    for count in range(50):
        started = time.perf_counter()
        response = answer(function, events[count % len(events)])
        seconds.append(time.perf_counter() - started)
        assert response["statusCode"] in (200, 415)
    assert function.resident_bytes() - before < 5e6
    assert statistics.median(seconds) < 0.25  # a start takes longer; measured 3 ms
    assert [answer(function, event)["body"] for event in events[:2]] == expected
    log = function.log.read_text()
    assert log.count('"event": "ready"') == 1
    assert '"event": "stop"' not in log
    assert "Task was destroyed" not in log


def test_a_stage_in_the_path_is_the_root_path(package: Path, libraries: Path, tmp_path: Path) -> None:
    with local.started(package, tmp_path, libraries, {"ROOT_PATH": "/prod"}) as function:
        for event in (http_api("GET", "/prod/nothing"), rest_api("GET", "/nothing")):
            response = answer(function, event)
            host = event["requestContext"]["domainName"]
            assert response["statusCode"] == 404
            assert json.loads(response["body"])["type"] == f"https://{host}/prod/docs/errors#not_found"
        assert answer(function, http_api("POST", "/prod/predict", JPEG))["statusCode"] == 200
        assert answer(function, rest_api("POST", "/predict", JPEG))["statusCode"] == 200


def test_the_deadline_is_the_services_own(package: Path, libraries: Path, tmp_path: Path) -> None:
    large = encode(drawing(2400, 1600))
    with local.started(package, tmp_path, libraries, {"DEADLINE_MS": 1}) as function:
        for _ in range(3):
            response = answer(function, http_api("POST", "/predict", large))
            assert response["statusCode"] == 504
            assert json.loads(response["body"])["code"] == "deadline_exceeded"
        assert answer(function, http_api("GET", "/health"))["statusCode"] == 200


def test_nothing_needs_to_be_written(package: Path, libraries: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(package, tmp_path / "package")
    paths = [copy, *copy.rglob("*")]
    # root without its privileges: the permissions then hold for it too
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    if powerless and not shutil.which("setpriv"):
        pytest.skip("root can write everywhere, and there is no setpriv to prevent that")
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert subprocess.run([*powerless, "touch", copy / "new"], capture_output=True, check=False).returncode != 0
        with local.started(copy, tmp_path, libraries, python=[*powerless, sys.executable]) as function:
            assert answer(function, http_api("POST", "/predict", *form(JPEG)))["statusCode"] == 200
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)
    assert {copy, *copy.rglob("*")} == set(paths)


# --- a function that cannot start ---------------------------------------------------------------------------------


def refused(package: Path, libraries: Path, folder: Path, **chosen: object) -> str:
    """What Lambda is told of a function that does not start, which is also in its log."""
    with local.started(package, folder, libraries, chosen) as function:
        posted = function.reported()
        assert function.process.wait(timeout=30) == 1
    assert posted.what == "init/error"
    assert posted.content["stackTrace"] == []
    log = function.log.read_text()
    assert 'File "' not in log  # the client writes the heading of a traceback, but no frame of it
    sentence: str = posted.content["errorMessage"]
    assert sentence in log
    return sentence.removeprefix("Unable to import module 'handler': ")


def test_a_damaged_artifact_is_one_sentence_and_no_function(package: Path, libraries: Path, tmp_path: Path) -> None:
    artifact = shutil.copytree(DEFAULT_MODEL, tmp_path / "cifar10")
    path = artifact / "model.int8.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    expected = f"{path} is not the file that was exported (size or sha256 differ)"
    assert refused(package, libraries, tmp_path, MODEL=artifact) == expected


def test_a_setting_that_is_none_is_one_sentence_and_no_function(package: Path, libraries: Path, tmp_path: Path) -> None:
    sentence = refused(package, libraries, tmp_path, MAX_UPLOAD="4500000")
    assert sentence.startswith("SIGHTGLASS_MAX_UPLOAD is no setting")
