"""Other people's clients, and the calls that a script makes with one."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from app.artifact import manifest
from app.artifact.decoder.decode import decode
from tests.environments import python_with
from tests.images import drawing, encode
from tests.serving import serving

_HERE = Path(__file__).parent
PACKAGES = {"triton": "tritonclient[http]==2.73.0", "kserve": "kserve==0.21.0"}


def calls(client: str, python: Path, url: str, folder: Path) -> dict[str, Any]:
    """What each call of `{client}_calls.py` answered, or {"error": what it raised}; `folder` has its images."""
    script = [str(python), str(_HERE / f"{client}_calls.py"), url, str(folder)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["call"]: line["answer"] for line in map(json.loads, done.stdout.splitlines())}


def documented(client: str) -> dict[str, str]:
    """docs/protocol.md's table of the client's calls: call -> what it says of the outcome."""
    section = (_HERE.parents[2] / "docs/protocol.md").read_text().partition(f"### {PACKAGES[client]}")[2]
    lines = [line for line in section.partition("\n###")[0].splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[-1] for row in rows}


@dataclass(frozen=True)
class Made:
    """What the calls answered, and what /predict says of the same images: float32[2, 10]."""

    answers: dict[str, Any]
    probabilities: NDArray[np.float32]
    labels: list[str]

    def error(self, call: str, status: int) -> str:
        """The call failed with that status; the message that its caller saw."""
        answer = self.answers[call]
        assert str(status) in str(answer["status"]), answer
        return str(answer["error"])

    def same(self, values: Any) -> bool:
        """Whether these are the probabilities; two images at once may differ in the last digit from one by one."""
        return np.allclose(np.array(values, np.float32), self.probabilities, rtol=0, atol=1e-6)


@contextmanager
def made(client: str, artifact: Path, folder: Path) -> Iterator[Made]:
    """All of its calls made against a service of the artifact."""
    python = python_with(PACKAGES[client])
    described = manifest.load(artifact)
    files = [encode(drawing(40, 30, seed)) for seed in (0, 1)]
    for number, file in enumerate(files):
        (folder / f"{number}.png").write_bytes(file)
    np.save(folder / "pixels.npy", np.stack([decode(file, described.input).pixels for file in files]))
    with serving(artifact, folder) as server:
        answers = [httpx2.post(f"{server.url}/predict?top_k=all", content=file).json()["top_k"] for file in files]
        by_label = [{each["class"]: each["probability"] for each in answer} for answer in answers]
        probabilities = np.array([[each[label] for label in described.labels] for each in by_label], np.float32)
        yield Made(calls(client, python, server.url, folder), probabilities, list(described.labels))
