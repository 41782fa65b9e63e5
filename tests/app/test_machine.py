"""Threads come from what the container grants, never from what the host has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import machine

ALLOWED = len(os.sched_getaffinity(0))
PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def v2(folder: Path, cpu: str = "max 100000", memory: str = "max") -> Path:
    """A cgroup v2 mount."""
    (folder / "cpu.max").write_text(f"{cpu}\n")
    (folder / "memory.max").write_text(f"{memory}\n")
    return folder


def v1(folder: Path, quota: int = -1, memory: int = 2**63 - 4096) -> Path:
    """A cgroup v1 mount, whose controllers are folders."""
    (folder / "cpu").mkdir()
    (folder / "memory").mkdir()
    (folder / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (folder / "memory/memory.limit_in_bytes").write_text(f"{memory}\n")
    return folder


def quota(folder: Path, version: int, share: float) -> Path:
    """`share` cores are granted."""
    microseconds = int(share * 100_000)
    return v2(folder, f"{microseconds} 100000") if version == 2 else v1(folder, microseconds)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """An affinity of four cores, so that a quota has something to limit on any machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("share", "usable"), [(0.1, 1), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.2, 4)])
def test_a_quota_is_rounded_up_to_whole_cores_and_named(
    tmp_path: Path, version: int, share: float, usable: int
) -> None:
    found = machine.cores(quota(tmp_path, version, share))
    assert found.usable == usable
    assert found.reason == f"container quota {share:g} of 4 cores"


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("share", [4.0, 64.0])
def test_a_quota_above_the_affinity_limits_nothing(tmp_path: Path, version: int, share: float) -> None:
    assert machine.cores(quota(tmp_path, version, share)) == (4, f"4 of {os.cpu_count()} cores by CPU affinity")


@pytest.mark.usefixtures("four_cores")
def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    for name, cgroup in {"none": tmp_path / "nowhere", "v2": v2(_new(tmp_path)), "v1": v1(_new(tmp_path))}.items():
        assert machine.cores(cgroup).usable == 4, name


def _new(folder: Path) -> Path:
    path = folder / str(len(list(folder.iterdir())))
    path.mkdir()
    return path


def test_one_allowed_cpu_is_one_core_whatever_the_host_has() -> None:
    program = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from app import machine
print(*machine.cores(), sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"1; 1 of {os.cpu_count()} cores by CPU affinity"


def test_this_process_has_at_least_one_core_and_no_more_than_its_affinity() -> None:
    assert 1 <= machine.cores().usable <= ALLOWED


@pytest.mark.parametrize("limit", [64 * 2**20, 2**30 // 2])
def test_a_memory_limit_counts_in_both_cgroup_versions(tmp_path: Path, limit: int) -> None:
    assert machine.memory_bytes(v2(_new(tmp_path), memory=str(limit))) == limit
    assert machine.memory_bytes(v1(_new(tmp_path), memory=limit)) == limit


def test_without_a_limit_or_above_it_memory_is_physical(tmp_path: Path) -> None:
    assert machine.memory_bytes(tmp_path / "nowhere") == PHYSICAL
    assert machine.memory_bytes(v2(_new(tmp_path))) == PHYSICAL
    assert machine.memory_bytes(v1(_new(tmp_path))) == PHYSICAL  # v1 says "no limit" with a huge number
    assert machine.memory_bytes(v2(_new(tmp_path), memory=str(2**60))) == PHYSICAL


def test_the_machine_describes_itself() -> None:
    assert machine.cpu_model()
    assert machine.instruction_set()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu avx2 avx512f avx512_vnni avx512_bf16", "avx512-vnni"),
        ("fpu avx2 avx512f avx512_vnni amx_int8 amx_bf16", "amx-int8"),
        ("fpu avx2 avx_vnni", "avx-vnni"),
        ("fpu avx2", "avx2"),
    ],
)
def test_the_instruction_set_is_the_widest_that_int8_can_use(
    monkeypatch: pytest.MonkeyPatch, flags: str, name: str
) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda field: flags if field == "flags" else "")
    assert machine.instruction_set() == name
    assert machine.multiplies_bfloat16() == ("bf16" in flags)
