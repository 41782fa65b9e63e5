"""What this process may use of the machine: cgroup quota and CPU affinity, never the host's core count."""

import math
import os
import platform
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")


class Cores(NamedTuple):
    """`usable` >= 1 and the sentence that says where the number comes from."""

    usable: int
    reason: str


def cores(cgroup: Path = _CGROUP) -> Cores:
    """Whole cores this process may keep busy: the smaller of CPU affinity and cgroup quota (rounded up)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    if quota is not None and quota < allowed:
        return Cores(max(1, math.ceil(quota)), f"container quota {quota:g} of {allowed} cores")
    return Cores(allowed, f"{allowed} of {os.cpu_count()} cores by CPU affinity")


def _quota(cgroup: Path) -> float | None:
    """CPUs granted by cgroup v2 (cpu.max) or v1 (cfs quota), None without a limit."""
    try:
        if (cgroup / "cpu.max").exists():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    return None if limit in ("max", "-1") else int(limit) / int(period)


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Memory this process may use: the smaller of physical memory and the cgroup's limit."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = (cgroup / name).read_text().strip()
        except OSError:
            continue
        return physical if limit == "max" else min(physical, int(limit))
    return physical


def resident_bytes() -> int:
    """Physical memory that this process holds (RSS)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def cpu_model() -> str:
    """The processor's name as it reports itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split()) | set(_cpuinfo("Features").split())


def instruction_set() -> str:
    """The widest integer arithmetic that INT8 kernels can use here, e.g. `avx512-vnni`."""
    known = {
        "amx_int8": "amx-int8",
        "avx512_vnni": "avx512-vnni",
        "avx_vnni": "avx-vnni",
        "avx512f": "avx512",
        "avx2": "avx2",
        "i8mm": "neon-i8mm",
        "asimddp": "neon-dotprod",
    }
    flags = _flags()
    return next((name for flag, name in known.items() if flag in flags), platform.machine())


def multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 products; without them they are emulated, slower than float32."""
    return not _flags().isdisjoint({"avx512_bf16", "amx_bf16"})
