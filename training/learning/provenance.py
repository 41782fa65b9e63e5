"""What a run's folder holds before its first epoch: where the run comes from, and what it reads."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from app import DISTRIBUTION, machine
from app.artifact.decoder.decode import InputSpec
from training import atomic
from training.data.copies import near_duplicates
from training.data.pixels import Pixels
from training.learning import device
from training.learning.learner import Learner
from training.learning.plan import Plan
from training.learning.prepare import RunData
from training.runs import checkpoint
from training.runs.schema import DataSource, Hardware, Meta, RecipeChoice


def begin(plan: Plan, data: RunData, learner: Learner) -> None:
    """Write the run's records and its state before the first epoch. Raises TrainingError."""
    with checkpoint.new_run(plan.out) as folder:
        if data.skipped:
            atomic.write(folder / "skipped.txt", "".join(f"{path}\t{why}\n" for path, why in data.skipped))
        if data.two_labels:
            atomic.write(folder / "two_labels.txt", "".join("\t".join(paths) + "\n" for paths in data.two_labels))
        splits = {name: (split.samples, split.sha256) for name, split in data.sets.items()}
        checkpoint.write_splits(folder, plan.data.labels, splits)
        near_duplicates.save(folder, data.hashes)
        checkpoint.save(folder / "last.pt", {"learner": learner.state_dict(), "history": [], "best": {}})
        atomic.write(folder / "metrics.jsonl", "")
        describe(plan, data.sets, data.input, learner.precision).save(folder)


def describe(plan: Plan, sets: dict[str, Pixels], spec: InputSpec, precision: str) -> Meta:
    """Everything needed to repeat the run."""
    return Meta(
        command=sys.argv,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        choice=RecipeChoice(recipe=plan.choice.recipe, why=plan.choice.why),
        recipe=plan.recipe,
        asked=plan.asked,
        weights=plan.weights.name if plan.weights else None,
        origin=plan.weights.origin if plan.weights else None,
        labels=plan.data.labels,
        input=spec,
        data=DataSource(source=plan.data.source, images={name: len(split) for name, split in sets.items()}),
        versions={
            "sightglass": version(DISTRIBUTION),
            **{name: version(name) for name in ("torch", "numpy", "pillow")},
        },
        hardware=Hardware(
            cpu=machine.cpu_model(),
            instruction_set=machine.instruction_set(),
            threads=torch.get_num_threads(),
            device=device.described(plan.device),
            precision=precision,
        ),
        commit=commit(),
    )


def commit() -> str:
    """This checkout's commit, with `+changes` where files differ from it; `unknown` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    root = Path(__file__).resolve().parents[2]
    top, head, changes = (
        subprocess.run([git, *words], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
        for words in (["rev-parse", "--show-toplevel"], ["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
    )
    if head.returncode or changes.returncode or Path(top.stdout.strip()).resolve() != root:
        return "unknown"  # what is installed inside another project's checkout is not of its commit
    return head.stdout.strip() + ("+changes" if changes.stdout else "")
