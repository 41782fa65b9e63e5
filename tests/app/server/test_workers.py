"""Several processes on one port: all of them answer, and none outlives its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.images import drawing, encode
from tests.serving import Server, connect, environment, serving

_ESTABLISHED, _LISTENING = "01", "0A"


@pytest.mark.parametrize("variant", ["onnx", "torchscript"])
def test_several_workers_answer_whatever_the_variant_and_none_outlives_its_parent(
    digits_artifact: Path, tmp_path: Path, variant: str
) -> None:
    with (
        serving(digits_artifact, tmp_path, WORKERS=2, VARIANT=variant) as server,
        httpx2.Client(base_url=server.url, timeout=60, limits=httpx2.Limits(max_keepalive_connections=0)) as client,
    ):
        for _ in range(10):
            assert client.post("/predict", content=encode(drawing())).json()["model"]["variant"] == variant
        workers = server.workers()
        server.process.kill()
        assert len(workers) >= 2  # where they are spawned, there is what keeps count of them besides
        assert not _left(workers)


def test_the_connections_are_dealt_to_all_workers(digits_artifact: Path, tmp_path: Path) -> None:
    with serving(digits_artifact, tmp_path, WORKERS=2) as server, contextlib.ExitStack() as open_ones:
        deadline = time.monotonic() + 60
        while server.log.read_text().count("startup complete") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(64):
            open_ones.enter_context(connect(server))
        dealt: list[int] = []
        while sum(dealt) < 64 and time.monotonic() < deadline:
            dealt = [len(_sockets_of(pid, _ESTABLISHED)) for pid in server.workers()]
        # a coin thrown 64 times falls on one side at least 16 times, but for 1 in 50,000 tries
        assert sum(dealt) == 64, dealt
        assert min(dealt) >= 16, dealt
        # not by luck: each has a queue of its own
        one, other = (_sockets_of(pid, _LISTENING) for pid in server.workers())
        assert one
        assert other
        assert not one & other


@pytest.mark.parametrize("variant", ["onnx", "torchscript"])
def test_no_worker_outlives_a_parent_that_dies_while_it_starts(
    digits_artifact: Path, tmp_path: Path, variant: str
) -> None:
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "app"],
            env=environment(digits_artifact, WORKERS=2, VARIANT=variant),
            stderr=log,
        )
    server = Server("", parent, tmp_path / "log")
    try:
        while len(workers := server.workers()) < 2 and parent.poll() is None:
            pass  # to kill it as early as can be
    finally:
        parent.kill()
        parent.wait()
    assert len(workers) >= 2, server.lines()
    assert not _left(workers)


def _left(workers: list[int]) -> list[int]:
    """Those that still run after a minute."""
    deadline = time.monotonic() + 60
    while (left := [pid for pid in workers if Path(f"/proc/{pid}/exe").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def _sockets_of(pid: int, state: str) -> set[str]:
    """Inodes of the TCP sockets in this state that the process holds; see proc_net_tcp."""
    held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == state and f"socket:[{row[9]}]" in held}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_another_sightglass_has_is_not_shared(digits_artifact: Path, tmp_path: Path, workers: int) -> None:
    with serving(digits_artifact, tmp_path, WORKERS=workers) as server:
        port = server.url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "app"],
            env=environment(digits_artifact, WORKERS=workers, PORT=port),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "address already in use" in second.stderr.lower()
