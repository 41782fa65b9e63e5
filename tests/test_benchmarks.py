"""The benchmark measures what it says: a short run of each of its parts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, which makes the load, is not on PATH")
def test_a_short_run_has_every_row_and_no_errors(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    short = ["--rounds", "1", "--seconds", "1", "--connections", "2", "--pictures", "32x32", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *short], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["server"], row["form"]) for row in rows if row["server"] != "ceiling"] == [
        *(("floor", "multipart"), ("floor", "raw")),
        *(("sightglass", "multipart"), ("sightglass", "raw")),
        ("naive", "multipart"),
    ]
    ceilings = [row for row in rows if row["server"] == "ceiling"]
    assert [row["form"] for row in ceilings] == ["batch 1", "batch 4", "batch 8", "batch 16"]
    for row in rows:
        assert row.get("errors", 0) == 0, row
        if row["server"] != "naive":  # beside other tests its two torch threads can take a second for one answer
            assert row["per_second"] > 0, row
            assert row["cpu_ms"] > 0, row
