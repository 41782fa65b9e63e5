"""`python -m benchmarks`: the ceiling, the HTTP floor, the service and the naive service, interleaved, as a table."""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.engines import machine
from app.settings import DEFAULT_MODEL
from benchmarks import ceiling
from benchmarks.load import Load, closed_loop, multipart
from benchmarks.naive_model import export_naive
from benchmarks.servers import Server, running
from training.drawings import draw

PICTURES = {"32x32": (32, 32, 90), "500x375": (500, 375, 85), "12 MP": (4032, 3024, 85)}


def main() -> None:
    """Measure what the command line asks for."""
    wanted = _arguments()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers = _start(stack, wanted.artifact, wanted.variant, folder)
        rows: dict[tuple[str, str, str, int], list[dict[str, float]]] = defaultdict(list)
        for _round in range(wanted.rounds):
            for kind in wanted.pictures:
                picture = _picture(*PICTURES[kind])
                _measure_ceiling(rows, wanted, kind, picture)
                for server in servers:
                    for connections in wanted.connections:
                        for form in ("multipart", "raw"):
                            if form == "raw" and server.name == "naive":
                                continue
                            body, content = multipart(picture) if form == "multipart" else (picture, "image/jpeg")
                            load = _under_load(server, body, content, connections, wanted.seconds, folder)
                            rows[server.name, kind, form, connections].append(load)
                            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    result = {"machine": _machine(wanted), "rows": [_median(key, each) for key, each in rows.items()]}
    if wanted.json:
        wanted.json.write_text(json.dumps(result, indent=1) + "\n")
    _print(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--artifact", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--variant", default="onnx-int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--json", type=Path, help="write the results here as well")
    return parser.parse_args()


def _picture(width: int, height: int, quality: int) -> bytes:
    """A drawn picture with the grain of a photograph: without it, decoding would cost half."""
    generator = np.random.default_rng(0)
    drawn = np.asarray(draw(width, height, generator)).astype(np.int16)
    grain = generator.normal(0, 6, drawn.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray((drawn + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _start(stack: ExitStack, artifact: Path, variant: str, folder: Path) -> list[Server]:
    naive = export_naive(artifact, folder / "naive.pt")
    ours = {"SIGHTGLASS_MODEL": str(artifact), "SIGHTGLASS_VARIANT": variant, "SIGHTGLASS_PORT": "{port}"}
    uvicorn = ["-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "--no-access-log"]
    naive_environment = {"NAIVE_MODEL": str(naive), "NAIVE_ARTIFACT": str(artifact)}
    return [
        stack.enter_context(running("floor", [*uvicorn, "benchmarks.floor:app"], {}, folder / "floor.log")),
        stack.enter_context(running("sightglass", ["-m", "app"], ours, folder / "sightglass.log")),
        stack.enter_context(
            running("naive", [*uvicorn, "benchmarks.naive:app"], naive_environment, folder / "naive.log")
        ),
    ]


def _under_load(
    server: Server, body: bytes, content: str, connections: int, seconds: int, folder: Path
) -> dict[str, float]:
    closed_loop(server.url, body, content, connections, 1, folder)  # warm
    before = server.cpu_seconds()
    load: Load = closed_loop(server.url, body, content, connections, seconds, folder)
    cpu = server.cpu_seconds() - before
    return {
        "per_second": load.per_second,
        "p50_ms": load.p50_ms,
        "p95_ms": load.p95_ms,
        "p99_ms": load.p99_ms,
        "errors": load.errors + load.not_2xx,
        "cpu_ms": cpu / max(1, load.requests) * 1e3,
        "generator_cpu_ms": load.generator_cpu_s / max(1, load.requests) * 1e3,
        "peak_mb": server.peak_bytes() / 1e6,
    }


def _measure_ceiling(rows: Any, wanted: argparse.Namespace, kind: str, picture: bytes) -> None:
    for batch in (1, 4, 8, 16):
        best = ceiling.measure(wanted.artifact, wanted.variant, picture, batch, wanted.seconds, machine.cores().usable)
        rows["ceiling", kind, f"batch {batch}", 0].append(
            {
                "per_second": best.images_per_second,
                "cpu_ms": best.cpu_ms,
                "decode_ms": best.decode_ms,
                "resize_ms": best.resize_ms,
                "engine_ms": best.engine_ms,
            }
        )


def _median(key: tuple[str, str, str, int], each: list[dict[str, float]]) -> dict[str, Any]:
    middle = {name: statistics.median(row[name] for row in each) for name in each[0]}
    return {"server": key[0], "picture": key[1], "form": key[2], "connections": key[3], "n": len(each), **middle}


def _machine(wanted: argparse.Namespace) -> dict[str, Any]:
    packages = ("sightglass", "onnxruntime", "pillow", "fastapi", "starlette", "uvicorn", "uvloop", "torch")
    return {
        "cpu": machine.cpu_model(),
        "instruction_set": machine.instruction_set(),
        "cores": machine.cores().usable,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "variant": wanted.variant,
        "rounds": wanted.rounds,
        "seconds": wanted.seconds,
    }


def _print(result: dict[str, Any]) -> None:
    print(json.dumps(result["machine"]))
    heads = ("picture", "server", "form", "conn", "req/s", "p50", "p95", "p99", "err", "cpu ms", "gen ms", "MB")
    line = "{:8} {:10} {:9} {:>4} {:>8} {:>7} {:>7} {:>7} {:>4} {:>7} {:>7} {:>5}"
    print(line.format(*heads))
    for row in sorted(result["rows"], key=lambda row: (list(PICTURES).index(row["picture"]), row["connections"])):
        cells = [f"{row.get(name, float('nan')):.{digits}f}" for name, digits in _COLUMNS]
        print(line.format(row["picture"], row["server"], row["form"], row["connections"], *cells))


_COLUMNS = (
    ("per_second", 1),
    ("p50_ms", 2),
    ("p95_ms", 2),
    ("p99_ms", 2),
    ("errors", 0),
    ("cpu_ms", 3),
    ("generator_cpu_ms", 3),
    ("peak_mb", 0),
)

if __name__ == "__main__":
    main()
