"""What hostile files cost, measured.

    python -m tests.app.artifact.decoder.costs COUNT MOST_BYTES [unprotected [NAME...]]

A line of JSON for each file. Without protection Pillow gets the file as it came, in this process, and its claim goes by
width x height, as all of it once was.
"""

import json
import random
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import TiffImagePlugin

from app.artifact.decoder import confined, header, memory_cost, reader
from app.artifact.decoder.decode import ImageError, decode, inspect
from app.artifact.decoder.formats import bmp
from app.limits.memory import keep_little_of_what_is_freed
from tests.app.artifact.decoder.hostile import KINDS
from tests.images import FORMATS, drawing, encode, spec

SIZE, MAX_PIXELS = spec(32, 32), 64_000_000


class Cost(NamedTuple):
    """Of one file: its bytes; CPU seconds and the highest memory of all processes above what they had before; what was
    claimed; and the refusal, or empty."""

    name: str
    seed: int
    size: int
    seconds: float
    peak: int
    claim: int
    said: str

    @property
    def excess(self) -> str:
        """What is more than it may be, or empty: besides what it claims, an upload has a place for one copy of the
        file, and small things are for the allocator's gaps."""
        if self.peak > self.claim + self.size + 8_000_000:
            return "memory"
        killed = "more time" in self.said  # by the limits of its process, 0.5 s and more, which the kernel keeps
        return "time" if not killed and self.seconds > 0.6 + 5e-9 * (self.size + self.claim) else ""


def main(count: int, most: int, protected: bool, names: list[str]) -> None:
    keep_little_of_what_is_freed()
    if not protected:
        reader.strip = lambda _kind, data: (data, 1)
        reader._PLUGINS["TIFF"] = TiffImagePlugin.TiffImageFile
        bmp.expand = lambda _image: None
        confined.possible = lambda: False
        memory_cost.lines = lambda _size, _scale=1: 0
        header._MOST_SIDE = sys.maxsize
    for kind in FORMATS:
        decode(encode(drawing(), kind), SIZE)
    for seed in range(count):
        for name in names or KINDS:
            dice = random.Random(seed)
            data = KINDS[name](dice, most if count < 10 else int(2000 * (most / 2000) ** dice.random()))
            print(json.dumps(_cost(name, seed, data)), flush=True)  # noqa: T201


def _cost(name: str, seed: int, data: bytes) -> Cost:
    before = {pid: _state(pid) for pid in ("self", *_forked())}
    Path("/proc/self/clear_refs").write_text("5")
    claim, said, started = 0, "", time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = inspect(data, SIZE, MAX_PIXELS)
            claim = found.memory
            decode(data, found)
    except ImageError as error:
        said = str(error)
    seconds = time.process_time() - started
    peak = max(0, _state("self")[1] - before["self"][0])
    for pid in _forked():
        _, highest, used = _state(pid)
        seconds += used - before[pid][2] if pid in before else used
        # one that has been there has had its peak before
        peak += max(0, highest - before[pid][0]) if pid in before and highest > before[pid][1] else 0
    return Cost(name, seed, len(data), seconds, peak, claim, said)


def _forked() -> list[str]:
    process = confined.processes()._process
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split() if process else []


def _state(pid: str) -> tuple[int, int, float]:
    """Resident bytes, the highest they were, CPU seconds."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        said = dict(line.split()[:2] for line in lines if line.startswith("Vm"))
    except OSError:  # it was killed
        return 0, 0, 0.0
    resident, highest = (int(said.get(name, 0)) * 1024 for name in ("VmRSS:", "VmHWM:"))
    return resident, highest, sum(map(int, ticks)) / 100


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) < 4, sys.argv[4:])
