"""The start of the service: what it says where it cannot, and what it takes where it can."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import DEFAULT_MODEL
from tests.serving import Server, environment, serving


def _start(artifact: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app"],
        env=environment(artifact, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MODEL": "/nowhere"}, "no artifact"),
        ({"PROT": "1"}, "SIGHTGLASS_PORT"),
        ({"PORT": "tcp://10.0.0.1:80"}, "enableServiceLinks"),
        ({"VARIANT": "onnx-int4"}, "SIGHTGLASS_VARIANT"),
        ({"DEVICE": "cuda", "VARIANT": "onnx"}, "DEVICE=cuda"),
    ],
)
def test_what_cannot_start_says_why_in_one_sentence(
    digits_artifact: Path, settings: dict[str, object], said: str
) -> None:
    done = _start(digits_artifact, **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use_is_said(server: Server, digits_artifact: Path) -> None:
    done = _start(digits_artifact, PORT=server.url.rpartition(":")[2])
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_service_is_ready_within_a_second_of_cpu_and_takes_less_than_150_mb(tmp_path: Path) -> None:
    with serving(DEFAULT_MODEL, tmp_path, WORKERS=2) as server:
        pids = [server.process.pid, *server.workers()]
        assert len(pids) == 3
        cpu = []
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert peak is not None
            assert int(peak[1]) < 150_000
        assert sum(cpu) < 2.0, cpu  # 0.85 on a quiet machine; others may run beside this test
        assert max(cpu[1:]) < 0.6, cpu  # 0.13: a worker that imported everything again would take 0.6
