"""The serving image by itself: small, quick to start, and at home in the tightest container that people use."""

import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.images import FORMATS, drawing, encode
from tests.smoke.docker import IMAGE, container, docker, until

TIGHT = (
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "10001",
    "--memory",
    "512m",
)
PUBLISHED = ("--publish", "127.0.0.1::8000")
CLASSIFY = """
import http.client, sys
photo = sys.stdin.buffer.read()
form = b"--x\\r\\nContent-Disposition: form-data; name=file; filename=p\\r\\n\\r\\n" + photo + b"\\r\\n--x--\\r\\n"
for body, kind in ((photo, "image/jpeg"), (form, "multipart/form-data; boundary=x")):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=30)
    connection.request("POST", "/predict", body, {"Content-Type": kind})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
"""


def photo_of_5_megabytes() -> bytes:
    noise = np.random.default_rng(0).normal(128, 30, (3024, 4032, 3)).clip(0, 255).astype(np.uint8)
    file = encode(Image.fromarray(noise), "JPEG", quality=78)
    assert 4_500_000 < len(file) < 9_500_000, len(file)
    return file


def test_the_image_is_at_most_300_megabytes_and_holds_no_torch_and_no_pip() -> None:
    about = json.loads(docker("image", "inspect", IMAGE))[0]
    assert about["Size"] <= 300_000_000
    assert about["Config"]["User"] == "10001:10001"
    labels = about["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "Sightglass"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    installed = docker("run", "--rm", IMAGE, "ls", "/opt/venv/lib/python3.11/site-packages").split()
    assert "app" in installed
    assert not {"torch", "pip", "setuptools", "matplotlib"} & set(installed)
    compiled = docker("run", "--rm", IMAGE, "ls", "/opt/venv/lib/python3.11/site-packages/app/__pycache__")
    assert "main.cpython-311.pyc" in compiled


def test_from_start_to_healthy_in_less_than_3_seconds_or_three_times_what_its_libraries_take() -> None:
    taken, libraries = [], []
    for _ in range(3):
        started = time.monotonic()
        docker("run", "--rm", "--network", "none", IMAGE, "python", "-c", "import fastapi, onnxruntime, uvicorn")
        libraries.append(time.monotonic() - started)
        with container("--network", "none") as one:
            started = time.monotonic()
            one.wait_until_healthy()
            taken.append(time.monotonic() - started)
    assert sorted(taken)[1] < max(3, 3 * sorted(libraries)[1]), (taken, libraries)


@pytest.mark.parametrize("tmpfs", [("--tmpfs", "/tmp"), ()], ids=["with /tmp", "without /tmp"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_photo_is_classified_without_a_network_a_writable_file_system_or_a_capability(
    tmpfs: tuple[str, ...], workers: int
) -> None:
    several = ("--env", f"SIGHTGLASS_WORKERS={workers}")
    with container(*TIGHT, *tmpfs, *several, "--network", "none") as one:
        one.wait_until_healthy()
        raw, form = one.python(CLASSIFY, photo_of_5_megabytes()).splitlines()
        assert raw.startswith("200 ")
        assert raw == form
        assert json.loads(raw.removeprefix("200 "))["model"]["name"] == "cifar10"
        wrong = [line for line in one.logs().splitlines() if " warn" in line or "rror" in line]
        assert wrong == []


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_file_type_is_decoded_by_what_the_image_kept_of_pillow(kind: str) -> None:
    with container("--network", "none") as one:
        one.wait_until_healthy()
        assert one.python(CLASSIFY, encode(drawing(), kind)).count("200 ") == 2


def test_images_too_large_for_the_memory_limit_are_refused_and_the_service_lives() -> None:
    """Each of these killed it before decoding claimed its memory; 250 kB of PNG was enough."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (350, 450, 3), np.uint8))
    bombs = [
        encode(Image.new("RGB", (8000, 8000)), "PNG"),
        encode(Image.new("RGBA", (8000, 8000)), "PNG"),
        encode(Image.new("I;16", (8000, 8000)), "PNG"),
        encode(Image.new("RGB", (8000, 8000)), "WEBP", method=0),
        encode(noise.resize((9000, 7000)), "JPEG", quality=50, progressive=True, subsampling=0),
    ]
    with container(*TIGHT, *PUBLISHED) as one:
        one.wait_until_healthy()
        with ThreadPoolExecutor(8) as pool, httpx2.Client(base_url=one.url(), timeout=60) as client:
            answers = list(pool.map(lambda bomb: client.post("/predict", content=bomb), bombs * 4))
            assert {answer.status_code for answer in answers} == {422}
            assert "of its memory limit" in answers[0].json()["detail"]
            # 12 MP fit, several at a time, whatever their kind
            fitting = [encode(Image.new(mode, (4000, 3000)), "PNG") for mode in ("RGB", "RGBA", "I;16")]
            answers = list(pool.map(lambda file: client.post("/predict", content=file), fitting * 8))
            assert {answer.status_code for answer in answers} == {200}
        state = one.inspect()["State"]
        assert state["Running"]
        assert not state["OOMKilled"]


@pytest.mark.parametrize(("memory", "threads"), [("256m", 2), ("512m", 8)])
def test_a_storm_of_images_that_just_fit_and_just_do_not_kills_no_container(memory: str, threads: int) -> None:
    """38 bytes of WebP killed 256 MB in a second: its canvases came before its size was known, and never went back."""
    storm = [
        encode(Image.new("RGB", (2880, 2880), (10, 200, 30)), "WEBP", lossless=True, method=0),
        encode(Image.new("RGB", (1500, 1500), (10, 200, 30)), "WEBP", lossless=True, method=0),
        encode(Image.new("RGB", (2500, 2500)), "PNG"),
        encode(Image.new("LA", (4000, 3000)), "PNG"),
        encode(Image.new("LAB", (2500, 2500)), "TIFF", compression="tiff_lzw"),
        encode(Image.new("CMYK", (5000, 4000)), "JPEG", progressive=True, subsampling=0),
        encode(Image.new("RGB", (1500, 1500)), "BMP"),
    ]
    options = (*TIGHT[:-1], memory, "--memory-swap", memory, "--env", f"SIGHTGLASS_THREADS={threads}")
    with container(*options, *PUBLISHED) as one:
        one.wait_until_healthy()
        with ThreadPoolExecutor(24) as pool, httpx2.Client(base_url=one.url(), timeout=120) as client:
            for images in (storm[:1], storm):
                answers = list(
                    pool.map(lambda file: client.post("/predict", content=file), images * (140 // len(images)))
                )
                assert {answer.status_code for answer in answers} <= {200, 422, 429}
        state = one.inspect()["State"]
        assert state["Running"]
        assert not state["OOMKilled"]


def test_a_container_too_small_for_any_image_does_not_start() -> None:
    with container("--memory", "96m", "--memory-swap", "96m") as one:
        until(lambda: not one.inspect()["State"]["Running"], 60, one.logs)
        assert one.inspect()["State"]["ExitCode"] == 1
        assert "do not fit into 101 MB of memory" in one.logs()


def test_uploads_beyond_the_memory_limit_wait_outside() -> None:
    """100 clients with 9 MB each are 900 MB, and twice that while forms are taken apart."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n' + bytes(9_000_000)
    form += b"\r\n--x--\r\n"
    kind = "multipart/form-data; boundary=x"
    with container(*TIGHT, *PUBLISHED) as one:
        one.wait_until_healthy()
        host, port = one.url().removeprefix("http://").split(":")
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(form)}\r\n\r\n"
        with ExitStack() as stalled:
            for _ in range(100):
                upload = stalled.enter_context(socket.create_connection((host, int(port)), timeout=30))
                with suppress(OSError):  # refused, and closed before all of it had been sent
                    upload.sendall(head.encode() + form[:-1])
            metrics = httpx2.get(f"{one.url()}/metrics").text
            rejected = re.search(r'^sightglass_images_total{outcome="rejected"} (\S+)', metrics, re.MULTILINE)
            assert rejected
            assert float(rejected[1]) >= 90
        state = one.inspect()["State"]
        assert state["Running"]
        assert not state["OOMKilled"]
        with httpx2.Client(base_url=one.url(), timeout=30) as client:
            until(lambda: client.post("/predict", content=encode(drawing())).status_code == 200, 30, one.logs)


def test_a_container_of_one_cpu_uses_one_thread_and_says_so() -> None:
    with container("--cpus", "1", "--network", "none") as one:
        one.wait_until_healthy()
        assert f"1 thread a worker (container quota 1 of {os.cpu_count()} cores, 1 worker)" in one.logs()


def test_an_artifact_mounted_over_the_default_is_served(other_artifact: Path) -> None:
    with container(*TIGHT, *PUBLISHED, "--volume", f"{other_artifact}:/model:ro") as one:
        one.wait_until_healthy()
        assert httpx2.get(f"{one.url()}/health").json()["model"]["name"] == "other"
        assert "<b>other 1</b>" in httpx2.get(f"{one.url()}/", headers={"Accept": "text/html"}).text
        assert httpx2.get(f"{one.url()}/page/page.js").status_code == 200


def test_a_damaged_artifact_stops_with_one_sentence(other_artifact: Path) -> None:
    with (other_artifact / "model.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01\x02")
    with container("--volume", f"{other_artifact}:/model:ro") as one:
        until(lambda: not one.inspect()["State"]["Running"], 60, one.logs)
        assert one.inspect()["State"]["ExitCode"] == 1
        assert one.logs().startswith("error: ")
        assert len(one.logs().splitlines()) == 1


def test_an_unready_service_is_unhealthy_with_a_reason() -> None:
    with container("--env", "SIGHTGLASS_DRAIN_MS=60000", "--health-interval", "1s", "--health-retries", "1") as one:
        one.wait_until_healthy()
        docker("kill", "--signal", "TERM", one.name)
        until(lambda: one.inspect()["State"]["Health"]["Status"] == "unhealthy", 60, one.logs)
        assert "Stopping." in one.inspect()["State"]["Health"]["Log"][-1]["Output"]


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_accepted_request(workers: int) -> None:
    """16 clients with keep-alive connections and 4 that open one for every request, until each is told to go."""
    file, all_began = encode(drawing(), "JPEG"), threading.Barrier(21)
    url = ""

    def client(keep_alive: bool) -> int:
        answered = 0
        with httpx2.Client(base_url=url, timeout=30) as connection:
            while True:
                if answered == 5:
                    all_began.wait(60)
                headers = {} if keep_alive else {"Connection": "close"}
                answer = connection.post("/predict", content=file, headers=headers)
                assert answer.status_code == 200, answer.text
                answered += 1
                if time.monotonic() > stopped + 0.5 and answer.headers.get("connection") == "close":
                    return answered

    stopped = float("inf")
    settings = ("--env", "SIGHTGLASS_DRAIN_MS=5000", "--env", f"SIGHTGLASS_WORKERS={workers}")
    with container(*TIGHT, *PUBLISHED, *settings) as one, ThreadPoolExecutor(20) as pool:
        one.wait_until_healthy()
        url = one.url()
        clients = [pool.submit(client, number < 16) for number in range(20)]
        all_began.wait(60)
        docker("kill", "--signal", "TERM", one.name)
        stopped = time.monotonic()
        answered = [future.result(timeout=60) for future in clients]
        until(lambda: not one.inspect()["State"]["Running"], 60, one.logs)
        assert one.inspect()["State"]["ExitCode"] == 0
        assert min(answered) > 5


def test_docker_stop_during_start_up_does_not_wait_for_the_kill() -> None:
    with container() as one:
        until(lambda: _catches_sigterm(one.inspect()["State"]["Pid"]), 60, one.logs)
        started = time.monotonic()
        docker("stop", "--time", "30", one.name)
        assert time.monotonic() - started < 5
        assert one.inspect()["State"]["ExitCode"] == 0


def _catches_sigterm(pid: int) -> bool:
    """Of a process on this machine, which a container's is for a local engine."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & (1 << (signal.SIGTERM - 1)))
