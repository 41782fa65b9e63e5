"""What is measured: the images, the servers, and which of them meet how many connections."""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from app.inference import loading
from benchmarks.baselines.naive_model import export_naive
from benchmarks.servers import Server, started
from training.variants.golden import draw

SMALL = "32x32"
IMAGES = {SMALL: (32, 32, 90), "500x375": (500, 375, 85), "12 MP": (4032, 3024, 85)}
CONNECTIONS = (1, 8, 32, 64)
FEW = (1, 32)
SERVICE = "sightglass"
VARIANTS = {SERVICE: "onnx-int8", "sightglass fp32": "onnx"}
WORKERS = {"sightglass 1 worker": 1, "sightglass 2 workers": 2}
OPEN_PERCENT = (50, 80, 120)


class Closed(NamedTuple):
    """One closed-loop row."""

    server: str
    form: str
    connections: int


def few_of(connections: Sequence[int]) -> list[int]:
    """1 and 32 of those that were asked for, or else the last; where one number must do, it is the last of these."""
    return [each for each in connections if each in FEW] or list(connections[-1:])


def closed_loops(image: str, connections: Sequence[int]) -> list[Closed]:
    """The rows of one image."""
    few = few_of(connections)
    many = few if image == "12 MP" else connections
    rows = [Closed(server, "multipart", each) for server in ("floor", SERVICE) for each in many]
    rows += [Closed(server, "raw", few[-1]) for server in ("floor", SERVICE)]
    rows += [Closed("sightglass fp32", "multipart", few[-1])]
    rows += [Closed("naive", "multipart", each) for each in few]
    if image == SMALL:
        rows += [Closed(server, "multipart", each) for server in WORKERS for each in many]
    return rows


def variant_of(server: str) -> str:
    """What the service named so runs; empty for the other servers."""
    return VARIANTS.get(server, VARIANTS[SERVICE] if server in WORKERS else "")


def image(kind: str) -> bytes:
    """A drawn image with the grain of a photograph: without it, decoding would cost half."""
    width, height, quality = IMAGES[kind]
    generator = np.random.default_rng(0)
    drawn = np.asarray(draw(width, height, generator)).astype(np.int16)
    grain = generator.normal(0, 6, drawn.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray((drawn + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def start(stack: ExitStack, artifact: Path, deadline_ms: int, folder: Path) -> dict[str, Server]:
    """All of them, by name; the floor has as many workers as the service takes by itself."""
    workers = loading.workers_for(artifact, VARIANTS[SERVICE], "auto", None)
    ours = {"SIGHTGLASS_MODEL": str(artifact), "SIGHTGLASS_PORT": "{port}", "SIGHTGLASS_DEADLINE_MS": str(deadline_ms)}
    uvicorn = ["-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "--no-access-log"]
    naive = {"NAIVE_MODEL": str(export_naive(artifact, folder / "naive.pt")), "NAIVE_ARTIFACT": str(artifact)}
    floor = {"FLOOR_PORT": "{port}", "FLOOR_WORKERS": str(workers)}
    wanted: dict[str, tuple[list[str], dict[str, str]]] = {
        "floor": (["-m", "benchmarks.baselines.floor"], floor),
        "naive": ([*uvicorn, "benchmarks.baselines.naive:app"], naive),
    }
    for name in (*VARIANTS, *WORKERS):
        processes = {"SIGHTGLASS_WORKERS": str(WORKERS[name])} if name in WORKERS else {}
        wanted[name] = (["-m", "app"], ours | {"SIGHTGLASS_VARIANT": variant_of(name)} | processes)
    servers = {
        name: stack.enter_context(started(name, command, environment, folder / f"{name}.log"))
        for name, (command, environment) in wanted.items()
    }
    for server in servers.values():
        server.wait()
    for server in servers.values():
        server.settle()  # the last of several workers may still be starting
    return servers
