"""The results as plain text, 120 columns wide at most."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plan import IMAGES

Column = tuple[str, str, int, int]  # head, key of the row, width, digits
_CLOSED: tuple[Column, ...] = (
    ("req/s", "per_second", 8, 1),
    ("p50", "p50_ms", 7, 2),
    ("p95", "p95_ms", 7, 2),
    ("p99", "p99_ms", 8, 2),
    ("err", "errors", 4, 0),
    ("cpu ms", "cpu_ms", 7, 3),
    ("share", "share", 5, 2),
    ("gen ms", "generator_cpu_ms", 6, 3),
    ("MB", "peak_mb", 5, 0),
)
_PARTS: tuple[Column, ...] = (
    ("decode", "decode_ms", 8, 3),
    ("resize", "resize_ms", 8, 3),
    ("engine", "engine_ms", 8, 3),
    ("loop", "cpu_ms", 8, 3),
)
_OPEN: tuple[Column, ...] = (
    ("wanted", "wanted", 6, 0),
    ("offered", "offered", 7, 0),
    ("goodput", "goodput", 7, 0),
    ("429", "rejected", 5, 3),
    ("p50", "p50_ms", 6, 1),
    ("p95", "p95_ms", 7, 1),
    ("p99", "p99_ms", 7, 1),
    ("5xx", "server_errors", 4, 0),
    ("broken", "failed", 6, 0),
    ("late", "late", 5, 3),
    ("gen", "generator_cpu", 4, 2),
)


def with_shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, those of the service with `share`: the least CPU of its ceiling's batch sizes over its own CPU."""
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["server"] == "ceiling":
            key = row["image"], row["variant"]
            best[key] = min(best.get(key, math.inf), row["cpu_ms"])
    ours = [row for row in rows if row["server"].startswith("sightglass") and "cpu_ms" in row]
    for row in ours:
        row["share"] = best[row["image"], row["variant"]] / row["cpu_ms"]
    return rows


def lines(result: Mapping[str, Any]) -> list[str]:
    """Three tables: servers and ceilings by image, parts of the ceilings, open loop; then what was not run."""
    order = list(IMAGES)
    rows = sorted(result["rows"], key=lambda row: (order.index(row["image"]), row["connections"]))
    ceilings = [row for row in rows if row["server"] == "ceiling"]
    opened = [row for row in rows if "offered" in row]
    return [
        *_table([row for row in rows if "offered" not in row], _CLOSED),
        "",
        "The ceilings' CPU ms an image: parts timed apart, and the whole loop.",
        *_table(ceilings, _PARTS),
        "",
        "Open loop: requests a second, shares of 429 and of late requests, ms of the 200s, cores of the generator.",
        *_table(opened, _OPEN),
        *(f"not run: {what}: {why}"[:120] for what, why in result["not_run"].items()),
    ]


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    heads = " ".join(f"{head:>{width}}" for head, _, width, _ in columns)
    table = [f"{'image':8} {'server':21} {'form':9} {'conn':>4} {heads}"]
    for row in rows:
        name = f"{row['server']} {row['variant']}" if row["server"] == "ceiling" else row["server"]
        cells = " ".join(_cell(row.get(key), width, digits) for _, key, width, digits in columns)
        table.append(f"{row['image']:8} {name:21} {row['form']:9} {row['connections'] or '':>4} {cells}".rstrip())
    return table


def _cell(value: float | None, width: int, digits: int) -> str:
    return " " * width if value is None or math.isnan(value) else f"{value:>{width}.{digits}f}"


def warn_of(load: float) -> None:
    """Whether other work disturbs; the numbers do not tell it afterwards."""
    print(f"load average {load:.2f}", file=sys.stderr)
    if load > 0.5:
        print("WARNING: something else runs here, or did a minute ago; wait for less than 0.5", file=sys.stderr)
