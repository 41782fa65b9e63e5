"""Score a run or an artifact on images it was not trained on."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app import engines, machine
from app.artifact import manifest
from app.artifact.decoder.decode import InputSpec
from app.engines import Runs
from training import locks
from training.console.progress import Talk
from training.console.terminal import count
from training.data import pixels
from training.data.corruptions import CORRUPTIONS, Image8, corrupted
from training.data.dataset import Data
from training.data.pixels import Pixels
from training.data.source import index, select
from training.errors import TrainingError
from training.metrics.classification import Accuracy, Evaluation, accuracy
from training.metrics.predictions import Predictions
from training.metrics.robustness import Robustness, Row, sample
from training.runs.checkpoint import Run
from training.runs.trained_model import RECORDED, TrainedModel, is_artifact
from training.threads import use_cores
from training.variants.proof import CHECKPOINT, answers_of

SEED = 0  # of what is drawn and corrupted for --robust
CORRUPTED = 500  # images, where nobody says how many


@dataclass(frozen=True)
class Candidate:
    """What is scored: an artifact's variant, or the checkpoint of a `run`. `recorded`: split -> checksums (or what they
    begin with) of the images that it was made with."""

    variant: str
    engine: Runs
    labels: tuple[str, ...]
    input: InputSpec
    temperature: float
    recorded: Mapping[str, list[str]]
    run: Run | None = None


def evaluate(
    target: Path, source: str | None, split: str | None, variant: str | None, talk: Talk, *, robust: int = 0
) -> Predictions:
    """Predict a split with a run's checkpoint or an artifact's variant, and score it.

    `source`: another place of the images, or others; `split`: by default all of an unsplit folder, test, or val where
    there is no test; `robust`: of so many of the images also corrupted (see `data.corruptions`).
    Raises TrainingError, ArtifactError or EngineError.
    """
    if is_artifact(target):
        candidate = _variant(target, source, variant)
    elif variant is not None:
        raise TrainingError(f'"{target}" is a run; variants belong to artifacts', "leave --variant out")
    else:
        candidate = _checkpoint(target, talk)
    run = candidate.run if candidate.run and (source is None or candidate.run.was_trained_on(source)) else None
    data = run.data() if run else _elsewhere(str(source), split, candidate, talk)
    name = split or next(name for name in ("all", "test", "val", "train") if name in data.splits)
    if name not in data.splits:
        raise TrainingError(f'{data.source} has no split "{name}"', f"it has {', '.join(data.splits)}: --split NAME")
    with talk.step(f"reading {name}", len(data.splits[name])) as progress:
        sums = run.checksums()[name] if run else None
        chosen = pixels.load(data, name, candidate.input, sums, progress=progress)
    if chosen.skipped:
        path, why = chosen.skipped[0]
        talk.fact("warn", f"skipped {count(len(chosen.skipped), 'unreadable file')}, the first: {path} ({why})")
    trained_on = set(candidate.recorded.get("train", ()))
    known = sum(digest in trained_on for digest in chosen.sha256)
    if known and name != "train":  # these are answered from memory
        held_out = "; --split test scores those that were held out" if name == "all" else ""
        of_these = f"{known:,} of these {count(len(chosen), 'image')}"
        talk.fact("warn", f"the model was trained on {of_these}, so the scores are too good{held_out}")
    probabilities = answers_of(candidate.engine, chosen).probabilities
    evaluation = Evaluation.of(candidate.labels, chosen.labels, probabilities)
    fallen = robustness(candidate, data, chosen, robust, talk) if robust else None
    return Predictions(
        candidate.variant, data.source, name, chosen, probabilities, evaluation, candidate.temperature, fallen
    )


def robustness(candidate: Candidate, data: Data, scored: Pixels, most: int, talk: Talk) -> Robustness:
    """Of `most` of the images, of every class its share: what the candidate answers as they are, and corrupted.

    Everything random follows from SEED and the image's own bytes. Raises ImageError, OSError.
    """
    part = scored.part(sample(scored.labels, most, SEED))
    clean = accuracy(part.labels, answers_of(candidate.engine, part).probabilities.argmax(axis=1))
    right = np.zeros((len(CORRUPTIONS), max(len(each.levels) for each in CORRUPTIONS)), np.int64)
    seen: tuple[tuple[Image8, ...], ...] = ()

    def read(place: int) -> list[list[Image8]]:
        seed = int(part.sha256[place][:8], 16) + SEED
        return list(corrupted(data.read(part.samples[place].path), candidate.input, seed))

    cores = machine.cores().usable
    with talk.step("corrupting", len(part)) as progress, ThreadPoolExecutor(cores) as pool:
        for start in range(0, len(part), cores):  # few at once: of each there are 35
            places = range(start, min(start + cores, len(part)))
            for place, found in zip(places, pool.map(read, places), strict=True):
                seen = seen or tuple(map(tuple, found))
                for number, levels in enumerate(found):
                    answers = candidate.engine.run(np.stack(levels)).probabilities.argmax(axis=1)
                    right[number, : len(levels)] += answers == part.labels[place]
                progress(place + 1)
    rows = [
        Row(each.name, each.about, each.levels, tuple(Accuracy.of(int(n), len(part)) for n in counts))
        for each, counts in zip(CORRUPTIONS, right, strict=True)
    ]
    return Robustness(clean, len(scored), SEED, tuple(rows), seen)


def _checkpoint(folder: Path, talk: Talk) -> Candidate:
    """The best so far, while the run is still trained."""
    run = Run.open(folder)
    use_cores()
    try:
        locks.require_free(folder)
    except locks.InUse as busy:
        talk.fact("note", f"{busy}: this is about its best epoch so far")
    model = TrainedModel.of(run)
    return Candidate(CHECKPOINT, model, run.labels, run.input, model.temperature, run.checksums(), run)


def _variant(folder: Path, source: str | None, variant: str | None) -> Candidate:
    """Through its serving engine."""
    described = manifest.load(folder)
    if source is None:
        raise TrainingError("an artifact carries no images", f"sightglass evaluate {folder} --data DATA")
    name = variant or described.default_variant
    if name not in described.variants:
        raise TrainingError(f'{folder} has no variant "{name}"', f"it has {', '.join(described.variants)}")
    engine = engines.load(name, folder / described.variants[name].file, "cpu", machine.cores().usable)
    recorded = json.loads((folder / RECORDED).read_text())
    return Candidate(name, engine, described.labels, described.input, described.temperature, recorded)


def _elsewhere(source: str, split: str | None, candidate: Candidate, talk: Talk) -> Data:
    """A folder's own splits; of an unsplit one all, or the files that the model's `split` recorded."""
    data = index(source, candidate.labels)
    for sentence in data.left_out:
        talk.fact("", sentence)
    recorded = candidate.recorded.get(split or "")
    if "all" not in data.splits or split is None or recorded is None:
        return data
    chosen = select(data, split, recorded)
    missing = len(recorded) - len(chosen.splits[split])
    if missing:
        verb = "is" if missing == 1 else "are"
        talk.fact("warn", f"{missing} of the {len(recorded)} images recorded as {split} {verb} not in {source}")
    return chosen
