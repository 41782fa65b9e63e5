"""`docker compose up` as the README says it, and a rolling restart behind a proxy."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.images import drawing, encode
from tests.serving import metrics
from tests.smoke.docker import ROOT, docker

README = (ROOT / "README.md").read_text()
# its own name, ports that are free, and the image that the other tests have built
PROJECT = ("compose", "--project-name", "sightglass-smoke")


@pytest.fixture(autouse=True)
def _free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("PROXY_PORT", "0")


@pytest.fixture
def compose() -> Iterator[tuple[str, ...]]:
    yield PROJECT
    docker(*PROJECT, "--profile", "*", "down", "--volumes", "--timeout", "20")


def address(service: str, port: int) -> str:
    """Where this machine reaches a service's published port."""
    return "http://" + docker(*PROJECT, "port", service, str(port)).strip().replace("0.0.0.0", "127.0.0.1")


def test_docker_compose_up_serves_and_the_readme_curl_gets_its_answer(compose: tuple[str, ...]) -> None:
    docker(*compose, "up", "--build", "--detach", "--wait")
    url = address("sightglass", 8000)
    assert httpx2.get(f"{url}/health").json()["status"] == "ok"
    curl = next(line for line in README.splitlines() if line.startswith("$ curl -F")).removeprefix("$ ")
    answered = subprocess.run(
        [*curl.replace("localhost:8000", url).split(), "-sS"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = json.loads(re.search(r"^\{.*\}$", README, re.MULTILINE)[0])  # type: ignore[index]  # a failure says enough
    answer = json.loads(answered.stdout)
    assert answer["prediction"] == shown["prediction"]
    assert answer["confidence"] == pytest.approx(shown["confidence"], abs=0.02)  # INT8 on another CPU
    assert 'sightglass_images_total{outcome="predicted"} 1.0' in metrics(url)


def test_compose_understands_every_profile() -> None:
    profiles = docker("compose", "config", "--profiles").split()
    assert sorted(profiles) == ["gpu", "monitoring", "smoke", "train"]
    docker("compose", "--profile", "*", "config", "--quiet")


def test_the_container_has_the_limits_of_the_file_and_the_service_sees_them(
    compose: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPUS", "1")
    monkeypatch.setenv("MEMORY", "600m")
    docker(*compose, "up", "--detach", "--wait")
    about = json.loads(docker("inspect", docker(*compose, "ps", "--quiet", "sightglass").strip()))[0]
    host = about["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == 600 * 2**20
    assert about["Config"]["User"] == "10001:10001"
    said = docker(*compose, "logs", "sightglass")
    assert f"1 thread a worker (container quota 1 of {os.cpu_count()} cores" in said
    room = re.search(r"(\d+) MB to decode in", said)
    assert room
    assert 200 < int(room[1]) < 400


def test_two_replicas_are_replaced_under_load_without_a_failed_request(compose: tuple[str, ...]) -> None:
    docker(*compose, "--profile", "smoke", "up", "--build", "--detach", "--wait", "replica-1", "replica-2", "haproxy")
    url, file, enough = address("haproxy", 8080), encode(drawing(), "JPEG"), threading.Event()
    statuses: list[int] = []

    def client(keep_alive: bool) -> int:
        answered = 0
        with httpx2.Client(base_url=url, timeout=30) as connection:
            while not enough.is_set():
                headers = {} if keep_alive else {"Connection": "close"}
                statuses.append(connection.post("/predict", content=file, headers=headers).status_code)
                answered += 1
                time.sleep(0.005)
        return answered

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number < 6) for number in range(8)]
        replaced = []
        try:
            for replica in ("replica-1", "replica-2"):
                before = docker(*compose, "ps", "--quiet", replica)
                docker(
                    *compose, "--profile", "smoke", "up", "--detach", "--wait", "--no-deps", "--force-recreate", replica
                )
                replaced.append(docker(*compose, "ps", "--quiet", replica) != before)
                time.sleep(2)  # HAProxy finds the new address and asks it for its health
        finally:
            enough.set()
        answered = [each.result(timeout=60) for each in clients]  # raises what a client met: a reset, a refusal
    assert replaced == [True, True]
    assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
    assert min(answered) > 2
    assert sum(answered) > 100
