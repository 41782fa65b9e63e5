"""The command and the stages behind it, called as tests call them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from training import evaluate
from training.console.progress import Talk
from training.metrics.predictions import Predictions
from training.variants import proof

QUIET = Talk(quiet=True)
NO_TORCH = """
import sys
from sightglass.cli import main
sys.argv = ["sightglass", *sys.argv[1:]]
try:
    main.main()
except SystemExit as stop:
    heavy = {"torch", "torchvision", "sklearn", "scipy", "matplotlib", "onnx"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else stop.code)
"""


@contextmanager
def hurried() -> Iterator[None]:
    """One round of timing instead of seven, 0.6 s less for each variant: where answers matter and speed does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "cpu_ms", partial(proof.cpu_ms, rounds=1))
        yield


class Said(NamedTuple):
    """What a command answered: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Sightglass = Callable[..., Said]


def alone(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process that fails if anything of the train extra was imported."""
    command = [sys.executable, "-c", NO_TORCH, *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


def score(target: Path, data: object = None, split: str | None = None, variant: str | None = None) -> Predictions:
    return evaluate.evaluate(target, None if data is None else str(data), split, variant, QUIET)
