"""Turn a run into an artifact, and prove every variant against the checkpoint before it is kept."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from app import engines
from app.artifact import manifest
from app.artifact.golden import Golden, doubts_of
from app.artifact.manifest import Manifest
from app.engines import LibraryMissing, Runs
from app.engines.variants import VARIANTS
from training import locks, report
from training.atomic import lock_of, new_folder
from training.console.progress import Talk
from training.console.terminal import count
from training.data import photographs, pixels
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.errors import Refused, TrainingError
from training.models.servable import Servable
from training.runs import mlflow
from training.runs.checkpoint import Run
from training.runs.trained_model import RECORDED, WEIGHTS, TrainedModel
from training.threads import use_cores
from training.variants import calibration, gates
from training.variants.doubt import COVERAGE
from training.variants.evidence import Evidence
from training.variants.gates import Verdict
from training.variants.golden import golden_of
from training.variants.manifest import describe
from training.variants.proof import CHECKPOINT, answers_of
from training.variants.unlabelled import Unlabelled
from training.variants.writers import WRITERS, Writer
from training.weights import published_network

CALIBRATION_IMAGES = 256
Writers = Mapping[str, Writer]


def export(
    run: Run,
    out: Path,
    source: str | None,
    talk: Talk,
    writers: Writers = WRITERS,
    *,
    coverage: float = COVERAGE,
    images: bool = True,
) -> Manifest:
    """Write the artifact `out` = .../NAME/VERSION; nothing is left behind where a gate refuses.

    Temperature and gates use val, INT8 calibration uses train, as does its gate where val is small, but other images of
    it; test is only measured, once per kept variant.
    `coverage`: what prediction sets promise, a share below 1. Without `images` the report holds none of test's.
    Raises TrainingError, also while the run is trained, when weights, curves and report would be of different epochs;
    Refused where an fp32 variant is not the checkpoint.
    """
    name, version = _name_and_version(out)
    with locks.reading(run.folder):
        run.history()  # the report needs it: damage is found before the work
        tracker = mlflow.connect(run.folder, talk, resumed=True)
        data = run.data(source)
        splits = load_splits(run, data, talk)
        val = splits["val"]
        use_cores()
        plain = TrainedModel.of(run)
        on_val = answers_of(plain, val)
        temperature = calibration.fit(on_val.logits, val.labels)
        model = replace(plain, temperature=temperature.value)
        with new_folder(out) as folder:
            loaded = {CHECKPOINT: model} | _write(model.servable, splits["train"], folder, writers, talk)
            golden = golden_of(model)
            rows = _judged(loaded, val, splits.get("judges"), golden)
            kept = {row.name: loaded[row.name] for row in rows if row.file and not row.objection}
            evidence = Evidence.of(
                run, data, splits, model, on_val, temperature, golden, kept, coverage=coverage, images=images
            )
            rows = [row if row.objection else evidence.measured(row, loaded[row.name], golden) for row in rows]
            described = _save(folder, describe(name, version, rows, evidence), golden, rows, evidence)
            seconds = _self_test_in_a_fresh_process(folder)
        _say(rows, described, [*report.fitted(evidence), ("trust", str(evidence.evaluation.calibration))], talk)
        holds = f"with images of {evidence.split}; --no-images leaves them out" if images else "without images"
        _say_proof(out, golden, seconds, holds, talk)
        tracker.register(out, described)
    return described


def export_published(
    model: str, out: Path, source: str | None, talk: Talk, writers: Writers = WRITERS, *, images: bool = True
) -> Manifest:
    """The same of a network as its makers published it, timm/NAME or torchvision/NAME, for its own classes.

    There are no labelled images: nothing is fitted (temperature 1), and of the gates those that need no labels hold, on
    photographs of `source`, a folder, or else on those that installed packages ship. INT8 is calibrated on others.
    Raises TrainingError, Refused.
    """
    name, version = _name_and_version(out)
    use_cores()
    data = photographs.find(source)
    plain, published = published_network.load(model)
    parameters = sum(each.numel() for each in plain.network.parameters()) / 1e6
    of = f"{parameters:.2f} M parameters, {count(len(plain.labels), 'class', 'classes')}"
    talk.fact("model", f"{model} at {plain.input.width} px, {of}, from {published.source} ({published.licence})")
    splits = {}
    for split, samples in data.splits.items():
        with talk.step(f"reading {split}", len(samples)) as progress:
            splits[split] = pixels.load(data, split, plain.input, progress=progress)
    shown, pieces = photographs.count(data)
    of = f", {pieces} images with pieces of them" if pieces > shown else ""
    told = Path(source).name if source else photographs.CREDIT
    talk.fact("images", f"{count(shown, 'photograph')}{of}, without labels: {told}")
    evidence = Unlabelled.of(plain, published, data, told, splits["val"], images=images)
    with new_folder(out) as folder:
        loaded = {CHECKPOINT: plain} | _write(plain.servable, splits["train"], folder, writers, talk)
        golden = golden_of(plain)
        rows = _judged(loaded, evidence.judging, None, golden, labelled=False)
        described = _save(folder, describe(name, version, rows, evidence), golden, rows, evidence)
        seconds = _self_test_in_a_fresh_process(folder)
    unfitted = ("fitted", "nothing: temperature 1, no reject line, no threshold of the unfamiliar")
    _say(rows, described, [("judged", evidence.judged), ("accuracy", evidence.accuracy), unfitted], talk)
    _say_proof(out, golden, seconds, "with images" if images else "without images", talk)
    return described


def _judged(
    loaded: Mapping[str, Runs], val: Pixels, judges: Pixels | None, golden: Golden, *, labelled: bool = True
) -> list[Verdict]:
    torch.set_num_threads(1)  # the checkpoint's too, as every engine has: their speeds are compared
    try:
        return gates.judge(loaded, val, judges, golden, labelled=labelled)
    finally:
        use_cores()


def _say(rows: list[Verdict], described: Manifest, facts: list[tuple[str, str]], talk: Talk) -> None:
    for line in report.verdict(rows, described):
        talk.line(line)
    for about, sentence in (*report.reasons(rows, described), *facts):
        talk.fact(about, sentence)


def _say_proof(out: Path, golden: Golden, seconds: float, holds: str, talk: Talk) -> None:
    stored = f"{count(len(golden.files), 'image')} stored; fresh-process self-test ok in {seconds:.2f} s"
    talk.fact("golden", stored)
    talk.fact("report", f"{out / 'report.html'} ({holds})")


def _name_and_version(out: Path) -> tuple[str, int]:
    """Raises TrainingError where they are none, or where `out` is taken."""
    name, version = out.resolve().parent.name, out.name
    if not re.fullmatch("[1-9][0-9]*", version):
        raise TrainingError(f'"{out}" does not end in a version', f"--out exports/NAME/VERSION, e.g. {out}/1")
    if not re.fullmatch(manifest.NAME, name):
        raise TrainingError(f'"{name}" cannot be a model\'s name', "letters, digits, '.', '_' and '-' can")
    locks.require_free(out, lock_of(out))
    if out.exists():
        others = [int(path.name) for path in out.parent.iterdir() if path.name.isdecimal()]
        raise TrainingError(f'"{out}" exists; a version is never changed', f"--out {out.parent / str(max(others) + 1)}")
    return name, int(version)


def load_splits(run: Run, data: Data, talk: Talk) -> dict[str, Pixels]:
    """All of val and test; of train the seeded sample that calibrates INT8 and, as `judges`, one that judges it."""
    recorded = run.checksums()
    train, sums = data.splits["train"], recorded["train"]
    judges = gates.judges(len(data.splits["val"]), len(train))
    size = min(CALIBRATION_IMAGES + judges, len(train))
    chosen = np.random.default_rng(run.recipe.seed).choice(len(train), size, replace=False)
    for name, part in {"judges": chosen[:judges], "train": chosen[judges:]}.items():
        recorded[name] = [sums[i] for i in part]
        data = replace(data, splits=data.splits | {name: tuple(train[i] for i in part)})
    splits = {}
    for name, samples in data.splits.items():
        if not samples:
            continue
        with talk.step(f"reading {name}", len(samples)) as progress:
            splits[name] = pixels.load(data, name, run.input, recorded[name], progress=progress)
    return splits


def _write(servable: Servable, train: Pixels, folder: Path, writers: Writers, talk: Talk) -> dict[str, Runs]:
    """Write each file and load it with the engines that run it, one thread each; `train` calibrates."""
    images: NDArray[np.uint8] = train.take(np.arange(len(train)))
    loaded: dict[str, Runs] = {}
    for file, write in writers.items():
        with talk.step(f"writing {file}", 1):
            write(servable, images, folder / file)
        for name in (name for name, spec in VARIANTS.items() if spec.file == file):
            try:
                loaded[name] = engines.load(name, folder / file, "cpu", 1)
            except LibraryMissing as missing:
                talk.fact("note", f"left out: {missing}")
        if not any(VARIANTS[name].file == file for name in loaded):
            (folder / file).unlink()  # nothing proves it
    return loaded


def _save(
    folder: Path, described: Manifest, golden: Golden, rows: list[Verdict], evidence: Evidence | Unlabelled
) -> Manifest:
    """Everything beside the variants; the manifest last, with the checksum of every file."""
    kept = {variant.file for variant in described.variants.values()}
    for file in {row.file for row in rows if row.file} - kept:
        (folder / file).unlink()
    golden = replace(golden, contract=described.contract)
    doubts = doubts_of(golden, described) if described.doubt else ""
    replace(golden, doubts=doubts, ood_scores=golden.ood_scores if doubts else None).save(folder)
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(evidence.checkpoint.network.state_dict()))
    if isinstance(evidence, Unlabelled):
        report.write_unlabelled(folder, described, rows, evidence)
    else:
        report.write(folder, described, rows, evidence)
    sums = {} if isinstance(evidence, Unlabelled) else evidence.run.checksums()
    recorded = {name: [digest[:16] for digest in sums[name]] for name in sums if name != "train"}
    (folder / RECORDED).write_text(json.dumps(recorded))
    files = {path.name: manifest.fingerprint(path) for path in sorted(folder.iterdir())}
    complete = described.model_copy(update={"files": files})
    complete.save(folder)
    return complete


def _self_test_in_a_fresh_process(folder: Path) -> float:
    """What `sightglass verify` says about the folder before it gets its name. Raises Refused; returns seconds."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-P", "-m", "sightglass", "verify", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"the finished artifact does not verify: {done.stderr.strip()}")
    return time.perf_counter() - started
