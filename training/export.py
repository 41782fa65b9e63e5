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
from numpy.typing import NDArray

from app import engines
from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.golden import Golden
from app.artifact.manifest import Manifest
from app.engines import Engine, Runs
from training import locks, report
from training.atomic import lock_of, new_folder
from training.console.progress import Talk
from training.console.terminal import count
from training.data import pixels
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.errors import Refused, TrainingError
from training.learning.learner import use_cores
from training.metrics.classification import Evaluation, accuracy
from training.models.servable import Servable
from training.runs import mlflow
from training.runs.checkpoint import Run
from training.runs.trained_model import RECORDED
from training.variants import gates
from training.variants.calibration import Calibrated, calibrated
from training.variants.gates import EagerEngine, Verdict, answers_of, probabilities_of
from training.variants.golden import golden_files
from training.variants.manifest import describe
from training.variants.writers import WRITERS, Writer

CALIBRATION_IMAGES = 256
Writers = Mapping[str, tuple[str, Writer]]


def export(
    run: Run, out: Path, source: str | None, talk: Talk, writers: Writers = WRITERS, *, images: bool = True
) -> Manifest:
    """Write the artifact `out` = .../NAME/VERSION; nothing is left behind where a gate refuses.

    Temperature and gates use val, INT8 calibration uses train, as does its gate where val is small, but other images of
    it; test is only measured, once per kept variant.
    Without `images` the report holds none of test's.
    Raises TrainingError, also while the run is trained, when weights, curves and report would be of different epochs;
    Refused where an fp32 variant is not the checkpoint.
    """
    name, version = _name_and_version(out)
    with locks.reading(run.folder):
        return _export(run, out, name, version, source, talk, writers, images=images)


def _export(
    run: Run, out: Path, name: str, version: int, source: str | None, talk: Talk, writers: Writers, *, images: bool
) -> Manifest:
    run.history()  # the report needs it: damage is found before the work
    tracker = mlflow.connect(run.folder, talk, resumed=True)
    data = run.data(source)
    splits = _load_splits(run, data, talk)
    use_cores()
    model = calibrated(run, splits["val"])
    with new_folder(out) as folder:
        calibration = splits["train"].take(np.arange(len(splits["train"])))
        loaded: dict[str, Runs] = {"checkpoint": EagerEngine(model.servable)}
        loaded |= _write(model.servable, calibration, folder, writers, talk)
        stored = _golden_images(run, model.servable)
        rows = _judge(loaded, splits, stored, writers)
        use_cores()  # again: TorchScript's engine has set its one thread for all of torch
        evidence = _evidence(run, data, splits, model, stored, images=images)
        rows = [_measure_once(row, loaded, evidence) for row in rows]
        described = describe(name, version, model.servable, rows, evidence)
        described = _save(folder, described, stored, rows, evidence)
        seconds = _self_test_in_a_fresh_process(folder)
    for line in report.verdict(rows, described):
        talk.line(line)
    for name, sentence in (*report.reasons(rows, described), *report.fitted(evidence)):
        talk.fact(name, sentence)
    talk.fact("trust", str(evidence.evaluation.calibration))
    talk.fact("golden", f"{count(len(stored.files), 'image')} stored; fresh-process self-test ok in {seconds:.2f} s")
    holds = f"with images of {evidence.split}; --no-images leaves them out" if images else "without images"
    talk.fact("report", f"{out / 'report.html'} ({holds})")
    tracker.register(out, described)
    return described


def _name_and_version(out: Path) -> tuple[str, int]:
    name, version = out.resolve().parent.name, out.name
    if not version.isdecimal() or int(version) < 1:
        raise TrainingError(f'"{out}" does not end in a version', f"--out exports/NAME/VERSION, e.g. {out}/1")
    if not re.fullmatch(manifest.NAME, name):
        raise TrainingError(f'"{name}" cannot be a model\'s name', "letters, digits, '.', '_' and '-' can")
    locks.require_free(out, lock_of(out))
    if out.exists():
        others = [int(path.name) for path in out.parent.iterdir() if path.name.isdecimal()]
        raise TrainingError(f'"{out}" exists; a version is never changed', f"--out {out.parent / str(max(others) + 1)}")
    return name, int(version)


def _load_splits(run: Run, data: Data, talk: Talk) -> dict[str, Pixels]:
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


def _write(
    servable: Servable, calibration: NDArray[np.uint8], folder: Path, writers: Writers, talk: Talk
) -> dict[str, Engine]:
    """Write each variant and load it with its serving engine, one thread each."""
    loaded = {}
    for name, (file, write) in writers.items():
        with talk.step(f"writing {file}", 1):
            write(servable, calibration, folder / file)
        loaded[name] = engines.load(name, folder / file, "cpu", 1)
    return loaded


def _golden_images(run: Run, servable: Servable) -> Golden:
    """Expected answers come from the eager checkpoint, never from an exported graph."""
    files = golden_files()
    decoded = np.stack([decode(file, run.input).pixels for file in files])
    return Golden(files, decoded, EagerEngine(servable).run(decoded).probabilities, contract="")


def _judge(loaded: Mapping[str, Runs], splits: Mapping[str, Pixels], stored: Golden, writers: Writers) -> list[Verdict]:
    """One row per engine, the checkpoint first. A refused INT8 is only left out; a refused fp32 ends the export."""
    proofs = gates.measure(loaded, splits["val"], splits.get("judges"))
    rows = []
    for name, engine in loaded.items():
        difference = float(np.abs(engine.run(stored.pixels).probabilities - stored.probabilities).max())
        why = "" if name == "checkpoint" else gates.objection(name, proofs, difference)
        if why and name != "onnx-int8":
            raise Refused(f"{name} refused: {why}", "the exported graph is not the checkpoint; nothing was written")
        file = "" if name == "checkpoint" else writers[name][0]
        rows.append(Verdict(name, file, proofs[name], difference, why))
    return rows


def _measure_once(row: Verdict, loaded: Mapping[str, Runs], evidence: report.Evidence) -> Verdict:
    """A kept variant's accuracy on the held-out split, where nothing is decided any more."""
    if row.objection:
        return row
    if row.name == "checkpoint":
        return replace(row, test=evidence.evaluation.accuracy)
    predicted = probabilities_of(loaded[row.name], evidence.held_out).argmax(axis=1)
    return replace(row, test=accuracy(evidence.held_out.labels, predicted))


def _evidence(
    run: Run, data: Data, splits: Mapping[str, Pixels], model: Calibrated, stored: Golden, *, images: bool
) -> report.Evidence:
    """What the checkpoint answers on all of the held-out split, test or else val, and on the golden images."""
    split = "test" if "test" in splits else "val"
    checkpoint, held_out = EagerEngine(model.servable), splits[split]
    outputs = answers_of(checkpoint, held_out)
    return report.Evidence(
        run=run,
        data=data,
        split=split,
        val=splits["val"],
        held_out=held_out,
        evaluation=Evaluation.of(run.labels, held_out.labels, outputs.probabilities),
        outputs=outputs,
        val_logits=model.val_logits,
        drawings=checkpoint.run(stored.pixels),
        checkpoint=checkpoint,
        temperature=model.temperature,
        images=images,
    )


def _save(
    folder: Path, described: Manifest, stored: Golden, rows: list[Verdict], evidence: report.Evidence
) -> Manifest:
    """Everything beside the variants; the manifest last, with the checksum of every file."""
    run = evidence.run
    for row in rows:
        if row.objection:
            (folder / row.file).unlink()
    replace(stored, contract=described.contract).save(folder)
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(run.network().state_dict()))
    report.write(folder, described, rows, evidence)
    recorded = {name: [digest[:16] for digest in sums] for name, sums in run.checksums().items() if name != "train"}
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
