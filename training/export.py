"""Turn a run, or a network as it is published, into an artifact: every variant is proven before it is kept."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from app.artifact import manifest
from app.artifact.manifest import Manifest
from training import locks, threads
from training.atomic import lock_of, new_folder
from training.console.progress import Talk
from training.console.terminal import count
from training.data import photographs, pixels
from training.errors import TrainingError
from training.report import labelled, unlabelled, verdict_table
from training.runs import mlflow
from training.runs.checkpoint import Run
from training.variants import artifact_folder, gates
from training.variants import card as cards
from training.variants.doubt import COVERAGE
from training.variants.evidence import Evidence
from training.variants.gates import Verdict
from training.variants.labelled import Labelled, read
from training.variants.manifest import describe
from training.variants.proof import CHECKPOINT
from training.variants.unlabelled import Unlabelled
from training.variants.writers import WRITERS, Writer
from training.weights import published_network

Writers = Mapping[str, Writer]
E = TypeVar("E", bound=Evidence)


def export(
    run: Run,
    out: Path,
    source: str | None,
    talk: Talk,
    writers: Writers = WRITERS,
    *,
    card: Path | None = None,
    coverage: float = COVERAGE,
    images: bool = True,
) -> Manifest:
    """Write the artifact `out` = .../NAME/VERSION; nothing is left behind where a gate refuses.

    Temperature and gates use val, INT8 calibration uses train, as does its gate where val is small, but other images of
    it; test is only measured, once per kept variant. `card`: what the author says of it, see training.variants.card.
    `coverage`: what prediction sets promise, a share below 1. Without `images` the report holds none of test's.
    Raises TrainingError, also while the run is trained, when weights, curves and report would be of different epochs;
    Refused where an fp32 variant is not the checkpoint.
    """
    require_version(out)
    authored = cards.read(card)
    with locks.reading(run.folder):
        run.history()  # the report needs it: damage is found before the work
        tracker = mlflow.connect(run.folder, talk, resumed=True)
        data = run.data(source)
        splits = read(run, data, talk)
        threads.use_cores()
        evidence = Labelled.of(run, data, splits, authored, coverage=coverage, images=images)
        described = proven(out, evidence, labelled.write, writers, talk)
        tracker.register(out, described)
    return described


def export_published(
    model: str,
    out: Path,
    source: str | None,
    talk: Talk,
    writers: Writers = WRITERS,
    *,
    card: Path | None = None,
    images: bool = True,
) -> Manifest:
    """The same of a network as its makers published it, timm/NAME or torchvision/NAME, for its own classes.

    There are no labelled images: nothing is fitted (temperature 1), and of the gates those that need no labels hold, on
    photographs of `source`, a folder, or else on those that installed packages ship. INT8 is calibrated on others.
    Raises TrainingError, Refused.
    """
    require_version(out)
    authored = cards.read(card)
    threads.use_cores()
    data = photographs.find(source)
    checkpoint, published = published_network.load(model)
    parameters = sum(each.numel() for each in checkpoint.network.parameters()) / 1e6
    of = f"{parameters:.2f} M parameters, {count(len(checkpoint.labels), 'class', 'classes')}"
    talk.fact("model", f"{model} at {checkpoint.input.width} px, {of}, from {published.source} ({published.licence})")
    splits = pixels.load_all(data, checkpoint.input, talk)
    shown, pieces = photographs.count(data)
    of = f", {pieces} images with pieces of them" if pieces > shown else ""
    told = Path(source).name if source else photographs.CREDIT
    talk.fact("images", f"{count(shown, 'photograph')}{of}, without labels: {told}")
    evidence = Unlabelled.of(checkpoint, published, data, splits, told, authored, images=images)
    return proven(out, evidence, unlabelled.write, writers, talk)


def proven(
    out: Path,
    evidence: E,
    write_report: Callable[[Path, Manifest, Sequence[Verdict], E], None],
    writers: Writers,
    talk: Talk,
) -> Manifest:
    """Write every variant, judge it by the checkpoint, describe what is kept, report, verify; all of it, or nothing."""
    checkpoint, golden = evidence.checkpoint, evidence.golden
    with new_folder(out) as folder:
        loaded = artifact_folder.write_variants(checkpoint.servable, evidence.train, folder, writers, talk)
        engines = {CHECKPOINT: checkpoint} | loaded
        with threads.only_one():
            rows = gates.judge(engines, evidence.val, evidence.judges, golden, labelled=evidence.labelled)
        evidence = evidence.fitted({row.name: engines[row.name] for row in rows if row.file and not row.objection})
        rows = [row if row.objection else evidence.measured(row, engines[row.name]) for row in rows]
        described = describe(out.resolve().parent.name, int(out.name), rows, evidence)
        artifact_folder.keep(folder, described, evidence)
        write_report(folder, described, rows, evidence)
        described = artifact_folder.seal(folder, described, evidence.recorded)
        seconds = artifact_folder.verify(folder)
    for line in verdict_table.verdict(rows, described):
        talk.line(line)
    for about, sentence in (*verdict_table.reasons(rows, described), *evidence.facts):
        talk.fact(about, sentence)
    stored = f"{count(len(golden.files), 'image')} stored; fresh-process self-test ok in {seconds:.2f} s"
    talk.fact("golden", stored)
    talk.fact("report", f"{out / 'report.html'} ({evidence.shown})")
    return described


def require_version(out: Path) -> None:
    """Raises TrainingError where `out` does not end in a name and a version, or is taken."""
    name, version = out.resolve().parent.name, out.name
    if not re.fullmatch("[1-9][0-9]*", version):
        raise TrainingError(f'"{out}" does not end in a version', f"--out exports/NAME/VERSION, e.g. {out}/1")
    if not re.fullmatch(manifest.NAME, name):
        raise TrainingError(f'"{name}" cannot be a model\'s name', "letters, digits, '.', '_' and '-' can")
    locks.require_free(out, lock_of(out))
    if out.exists():
        others = [int(path.name) for path in out.parent.iterdir() if path.name.isdecimal()]
        raise TrainingError(f'"{out}" exists; a version is never changed', f"--out {out.parent / str(max(others) + 1)}")
