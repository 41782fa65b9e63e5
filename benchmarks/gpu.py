"""What a GPU does: the service on it, the same answers as on the CPU, and the training loop. One JSON.

`benchmarks/gpu.sh` brings what a bare machine lacks and calls this. Each part that fails is named with its reason, and
the others go on. To serve an artifact takes a minute and a half, ResNet-50 four; training has the rest of `--minutes`.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from prometheus_client.parser import text_string_to_metric_families

from app import engines, machine
from app.artifact import manifest
from app.settings import DEFAULT_MODEL
from benchmarks import plan, servers
from benchmarks.load import closed_loop, multipart
from benchmarks.servers import Server
from training.variants.golden import draw

VARIANTS = ("torchscript", "onnx")
LOADS = {1: (1, 32, 128), 4: (128,)}  # workers -> connections
COMPARED = 512  # images whose answers are compared
LARGE_SECONDS, EVALUATION_SECONDS = 260, 20  # of ResNet-50, and of 5,000 small images; 16 cores of a Xeon, an H200
JSON = dict[str, Any]


def main() -> None:
    wanted = _arguments()
    ends = time.monotonic() + wanted.minutes * 60
    wanted.keep.mkdir(parents=True, exist_ok=True)
    result: JSON = {"machine": _machine(wanted.device), "failed": {}}

    def part(what: str, measure: Callable[..., Any], *arguments: Any) -> Any:
        """What `measure` answers, kept in the JSON under `what`; None where it fails."""
        started = time.monotonic()
        try:
            result[what] = answer = measure(*arguments)
        except Exception as error:  # one part must not take the others with it
            answer, result["failed"][what] = None, f"{type(error).__name__}: {error}"[-2000:]
        say = f"{time.monotonic() - started:6.1f} s  {what}  {result['failed'].get(what, '')}"
        print(say, file=sys.stderr, flush=True)
        wanted.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
        return answer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def serving(artifact: Path) -> None:
            for variant in VARIANTS:
                what = f"{artifact.parent.name} {variant}"
                part(f"serve {what}", _serve, artifact, variant, wanted, folder)
                part(f"agree {what}", _agreement, artifact, variant, wanted.device)

        serving(wanted.artifact)
        # a large network's export proves it on one thread of the CPU, which takes longer than all of its serving
        large_ends = ends - (LARGE_SECONDS if wanted.large else 0)
        part("train", _train, wanted, large_ends - time.monotonic())
        if wanted.large and (large := part(f"export {wanted.large}", _large, wanted.large, folder)):
            serving(large)
    sys.exit(1 if result["failed"] else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh run FOLDER",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the JSON")
    parser.add_argument("--keep", type=Path, default=Path("runs"), help="the folder in which the run is left")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8, help="for everything")
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--artifact", type=Path, default=DEFAULT_MODEL, help="what is served and compared")
    parser.add_argument("--large", default="torchvision/resnet50:224", help="MODEL:PIXELS, fresh weights; or none: ''")
    parser.add_argument("--data", default="cifar10", help="what is trained on")
    parser.add_argument("--recipe", default="deep-residual-cnn-onecycle")
    return parser.parse_args()


def _machine(device: str) -> JSON:
    gpu = torch.cuda.get_device_name() if device == "cuda" else ""
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if gpu else {}
    return {
        "gpu": gpu,
        "cpu": machine.cpu_model(),
        "cores": machine.cores().usable,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        **cuda,
    }


def _large(wanted: str, folder: Path) -> Path:
    """An artifact of a network as large as people use; a few drawings are enough, for its answers do not matter."""
    model, _, pixels = wanted.partition(":")
    generator = np.random.default_rng(0)
    for number in range(40):
        path = folder / "drawings" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(64, 64, generator).save(path)
    run, out = folder / "large-run", folder / "exports/large/1"
    options = [f"model={model}", f"input_size={pixels}", "epochs=1", "batch_size=8"]
    settings = [word for option in options for word in ("--set", option)]
    sightglass(
        "train", folder / "drawings", "--recipe", "residual-cnn-adam", *settings, "--out", run, "--device", "cpu"
    )
    sightglass("export", run, "--out", out)
    return out


def sightglass(*arguments: object, seconds: float | None = None) -> str:
    """What the command writes to stdout; ended as by Ctrl-C after so many seconds. Raises RuntimeError with its end."""
    command = [sys.executable, "-m", "sightglass", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, told = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            said, told = process.communicate()
    if process.returncode not in (0, 130):
        raise RuntimeError(told[-1500:])
    return said


def _serve(artifact: Path, variant: str, wanted: argparse.Namespace, folder: Path) -> list[JSON]:
    """A row for each number of workers and connections: requests/s, latency, batches, share of the bare network."""
    rows = []
    for workers, connections in LOADS.items():
        rows += _loads(artifact, variant, workers, connections, wanted, folder)
    rates = _bare(artifact, variant, wanted.device, sorted({round(row["batch"]) for row in rows}))
    for row in rows:
        row["bare_per_second"] = rates[round(row["batch"])]
        row["share"] = row["per_second"] / row["bare_per_second"]
    return rows


def _loads(
    artifact: Path, variant: str, workers: int, connections: Sequence[int], wanted: argparse.Namespace, folder: Path
) -> list[JSON]:
    """Of one service, started for them."""
    before = _gpu_mb(wanted.device)
    given = {"MODEL": artifact, "VARIANT": variant, "DEVICE": wanted.device, "PORT": "{port}", "WORKERS": workers}
    given["MAX_QUEUE"] = 1024  # or the workers refuse what the load generator deals to them unevenly
    environment = {f"SIGHTGLASS_{name}": str(value) for name, value in given.items()}
    body, kind = multipart(plan.image("500x375" if manifest.load(artifact).input.width > 64 else "32x32"))
    started, rows = time.monotonic(), []
    with servers.running(variant, ["-m", "app"], environment, folder / f"{variant}.log") as server:
        facts = {"workers": workers, "start_s": time.monotonic() - started}
        facts |= {key: _health(server)[key] for key in ("device", "selftest_max_probability_difference")}
        for each in connections:
            closed_loop(server.url, body, kind, each, 1, folder)  # warm
            server.settle()
            images, batches = _batches(server)
            load = closed_loop(server.url, body, kind, each, wanted.seconds, folder)
            images, batches = (now - then for now, then in zip(_batches(server), (images, batches), strict=True))
            row = {"connections": each, **asdict(load), "per_second": load.per_second, "batch": images / batches}
            rows.append(facts | row | {"gpu_mb": _gpu_mb(wanted.device) - before})
    return rows


def _health(server: Server) -> JSON:
    with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answer:
        health: JSON = json.load(answer)
        return health


def _batches(server: Server) -> tuple[float, float]:
    """Images and engine runs so far."""
    time.sleep(0.3)  # metrics are written ten times a second
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    seen = {sample.name: sample.value for family in families for sample in family.samples}
    return seen["sightglass_batch_size_sum"], seen["sightglass_batch_size_count"]


def _bare(artifact: Path, variant: str, device: str, sizes: list[int]) -> dict[int, float]:
    """Images/s of the engine alone by batch size, in a process of its own."""
    code = f"from benchmarks import gpu; gpu.print_rates({str(artifact)!r}, {variant!r}, {device!r}, {sizes})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    return {int(size): rate for size, rate in json.loads(done.stdout.splitlines()[-1]).items()}


def print_rates(artifact: str, variant: str, device: str, sizes: list[int]) -> None:
    """See `_bare`."""
    engine, spec = _engine(Path(artifact), variant, device), manifest.load(Path(artifact)).input
    print(json.dumps({size: _rate(engine, (size, spec.height, spec.width, 3)) for size in sizes}))


def _rate(engine: engines.Engine, shape: tuple[int, ...]) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    runs, elapsed = 0, 0.0
    for seconds in (0.5, 1.0):  # the first to warm up
        runs, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            engine.run(pixels)
            runs += 1
    return runs * shape[0] / elapsed


def _engine(artifact: Path, variant: str, device: str) -> engines.Engine:
    path = artifact / manifest.load(artifact).variants[variant].file
    return engines.load(variant, path, device, machine.cores().usable)


def _agreement(artifact: Path, variant: str, device: str) -> JSON:
    """Answers on this device beside those of ONNX Runtime on the CPU."""
    generator, spec = np.random.default_rng(1), manifest.load(artifact).input
    pixels = np.stack([np.asarray(draw(spec.width, spec.height, generator)) for _ in range(COMPARED)])
    ours, cpu = (
        np.concatenate([engine.run(pixels[place : place + 32]).probabilities for place in range(0, COMPARED, 32)])
        for engine in (_engine(artifact, variant, device), _engine(artifact, "onnx", "cpu"))
    )
    same = ours.argmax(axis=1) == cpu.argmax(axis=1)
    return {
        "images": COMPARED,
        "agreement": float(same.mean()),
        "largest_difference": float(np.abs(ours - cpu).max()),
    }


def _train(wanted: argparse.Namespace, seconds: float) -> JSON:
    """The recipe as far as the clock allows; each epoch as `metrics.jsonl` has it, and the best one on test."""
    out = wanted.keep / "gpu"
    arguments = ("--recipe", wanted.recipe, "--device", wanted.device, "--out", out, "--force")
    started = time.monotonic()
    sightglass("train", wanted.data, *arguments, seconds=max(10.0, seconds - EVALUATION_SECONDS))
    trained = time.monotonic() - started
    scores = {}
    if (out / "weights.pt").exists():  # all epochs are done
        test = json.loads(sightglass("evaluate", out, "--data", wanted.data, "--split", "test", "--json"))
        scores = {f"test_{name}": test[name] for name in ("accuracy", "n", "ece")}
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    meta = json.loads((out / "meta.json").read_text())
    return {"recipe": wanted.recipe, "seconds": trained, **scores, "hardware": meta["hardware"], "epochs": epochs}


def _gpu_mb(device: str) -> float:
    """Memory in use on the GPU, by whomever."""
    if device != "cuda":
        return 0.0
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0])


if __name__ == "__main__":
    main()
