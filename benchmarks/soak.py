"""`python -m benchmarks.soak`: whether memory grows with the number of requests, over images of all sorts."""

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.servers import Server, running
from training.variants.golden import draw

# One thread of wrk sends the files in turn; a file's type is decided by its bytes, so that none needs a header.
_LUA = """
function init(args)
  files, place = {}, 0
  for number, path in ipairs(args) do
    local file = io.open(path, "rb")
    files[number] = wrk.format("POST", "/predict", nil, file:read("*a"))
    file:close()
  end
end
function request()
  place = place % #files + 1
  return files[place]
end
function done(summary)
  io.write(string.format('{"requests":%d,"refused":%d}\\n', summary.requests, summary.errors.status))
end
"""
_SETTLED = 0.2  # of the requests, before which caches and pools still fill


def main() -> None:
    """Print the resident memory while the requests go by, and its slope; exit code 3 when it is above the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--limit-mb", type=float, default=5, help="growth for each 100,000 requests")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["-m", "app"]
        with running(
            "soak", command, {"SIGHTGLASS_PORT": "{port}", "SIGHTGLASS_WORKERS": "1"}, folder / "log"
        ) as server:
            samples = _soak(server, wanted.requests, wanted.connections, folder)
    slope_mb = slope(samples) * 100_000 / 1e6
    print(
        json.dumps({"requests": samples[-1][0], "slope_mb_per_100000": round(slope_mb, 2), "limit_mb": wanted.limit_mb})
    )
    sys.exit(3 if slope_mb > wanted.limit_mb else 0)


def slope(samples: list[tuple[int, int]]) -> float:
    """Bytes a request, by least squares over (requests, bytes) after the first fifth of the requests."""
    settled = [sample for sample in samples if sample[0] >= _SETTLED * samples[-1][0]]
    requests, resident = np.array(settled, float).T
    return float(np.polyfit(requests, resident, 1)[0])


def _soak(server: Server, requests: int, connections: int, folder: Path) -> list[tuple[int, int]]:
    """Rounds of ten seconds until there have been that many requests; (requests so far, resident bytes) after each."""
    script = folder / "mixed.lua"
    script.write_text(_LUA)
    paths = _write(folder)
    generator = [
        "wrk",
        "-t1",
        f"-c{connections}",
        "-d10s",
        "--timeout",
        "30s",
        "-s",
        str(script),
        f"{server.url}/",
        "--",
    ]
    server.wait()
    samples: list[tuple[int, int]] = []
    sent = 0
    while sent < requests:
        done = subprocess.run([*generator, *paths], capture_output=True, text=True, check=True)
        seen = json.loads(done.stdout.splitlines()[-1])
        sent += seen["requests"]
        time.sleep(1)  # what is in flight when wrk stops is answered to nobody
        samples.append((sent, _resident_bytes(server)))
        print(
            f"{sent:>8} requests, {seen['refused']} of the last {seen['requests']} refused", end="; ", file=sys.stderr
        )
        print(f"{samples[-1][1] / 1e6:.1f} MB resident", file=sys.stderr, flush=True)
    return samples


def _resident_bytes(server: Server) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _write(folder: Path) -> list[str]:
    """Small and large files of every kind, and two that are refused; small ones are most, as elsewhere."""
    sizes = itertools.cycle([(32, 32), (64, 48), (200, 150), (32, 32), (500, 375)])
    kinds = ["JPEG", "PNG", "JPEG", "WEBP", "JPEG", "GIF", "JPEG", "BMP", "JPEG", "TIFF"] * 5
    files = [_encoded(*next(sizes), kind, seed) for seed, kind in enumerate(kinds)]
    files += [_encoded(2000, 1500, "JPEG", 1), files[0][:200], b"no image"]
    paths = [folder / f"image-{number}" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    return [str(path) for path in paths]


def _encoded(width: int, height: int, kind: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    drawn: Image.Image = draw(width, height, np.random.default_rng(seed))
    drawn.save(buffer, kind)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
