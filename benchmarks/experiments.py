"""The runs behind docs/training.md: folders made of CIFAR-10's images, and `sightglass` commands as users give them.

CIFAR10 is a folder with train/<class>/* and test/<class>/*, OUT takes the folders, the runs and their scores. What is
in OUT already is kept, so a call that was cut off goes on where it stopped. All tables take two hours of one core; two
calls with tables of their own and OMP_NUM_THREADS=1 share two.
"""

import argparse
import json
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
UNEQUAL = (500, 358, 257, 184, 132, 95, 68, 49, 35, 25)
TWO = ("bird", "truck")
PETS = {"cat-dog": ("cat", "dog"), "airplane-frog": ("airplane", "frog")}
ENLARGED = 192  # pixels: photographs in content, if not in detail
SEEDS = (0, 1, 2)


class Draw(NamedTuple):
    """So many images of each class of CIFAR-10's `half`, after the first `skip` of those shuffled by `seed`."""

    folder: str
    half: str
    counts: Mapping[str, int]
    seed: int = 0
    skip: int = 0
    pixels: int | None = None


class Experiment(NamedTuple):
    """One run on `data`, a folder of OUT/data or a name that `train` knows; scored on `others`, or on its own test."""

    table: str
    row: str
    data: str
    recipe: str
    changed: tuple[str, ...] = ()
    seed: int = 0
    source: str | None = None
    others: str | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.table}-{self.row}-{self.seed}".replace(" ", "-")


def draws() -> list[Draw]:
    """Every folder of images."""
    eight = [label for label in LABELS if label not in TWO]
    rest = dict.fromkeys(LABELS, 500)
    found = [
        Draw("cifar-10k/train", "train", dict.fromkeys(LABELS, 1000)),
        Draw("cifar-10k/test", "test", rest),
        Draw("eight/train", "train", dict.fromkeys(eight, 2000)),
        Draw("eight/test", "test", dict.fromkeys(eight, 500)),
        Draw("unequal/train", "train", dict(zip(LABELS, UNEQUAL, strict=True))),
        Draw("unequal/test", "test", rest),
    ]
    for seed in SEEDS:
        found += [
            Draw(f"two-{seed}/train", "train", dict.fromkeys(TWO, 50), seed),
            Draw(f"two-{seed}/val", "train", dict.fromkeys(TWO, 100), seed, skip=50),
            Draw(f"two-{seed}/test", "test", dict.fromkeys(TWO, 500), seed),
        ]
    for name, (first, second) in PETS.items():
        for suffix, pixels in (("", ENLARGED), ("-small", None)):
            found += [
                Draw(name + suffix, "train", {first: 122, second: 121}, pixels=pixels),
                Draw(f"{name}{suffix}-others", "test", {first: 500, second: 500}, pixels=pixels),
            ]
    return found


def experiments() -> list[Experiment]:
    """Every run, a run that others start from before them."""
    plain = ("crop_padding=0", "flip=false", "jitter=[0.0,0.0,0.0]")
    ten = [
        ("ablation", "as it is", "residual-cnn-adam", ()),
        ("ablation", "without batch norm", "residual-cnn-no-norm", ()),
        ("ablation", "without and at a tenth of the rate", "residual-cnn-no-norm-low-lr", ()),
        ("ablation", "no augmentation", "residual-cnn-adam", plain),
        ("ablation", "label smoothing", "residual-cnn-adam", ("label_smoothing=0.1",)),
        ("ablation", "cutmix", "residual-cnn-adam", ("cutmix=1.0",)),
        ("ablation", "both", "residual-cnn-adam", ("label_smoothing=0.1", "cutmix=1.0")),
        *(("networks", name, name, ()) for name in ("mlp", "basic-cnn", "plain-cnn", "vgg-style-cnn", "depthwise-cnn")),
        ("networks", "residual-cnn-onecycle", "residual-cnn-onecycle", ()),
    ]
    found = [Experiment(table, row, "cifar-10k", name, ("epochs=15", *changed)) for table, row, name, changed in ten]
    deep = "deep-residual-cnn-onecycle"
    found.append(Experiment("deep", deep, "cifar-10k", deep, ("epochs=2",)))
    found += [Experiment("digits", name, "digits", name) for name in ("digits", "mnist-cnn", "lenet-5", "mnist-mlp")]
    return found + _transfer() + _few() + _unequal()


def _transfer() -> list[Experiment]:
    found = [Experiment("transfer", "eight", "eight", "residual-cnn-onecycle", ("epochs=12",))]
    scratch = ("lr=0.02", "ema_decay=0")
    rows = [
        ("feature-extraction", ()),
        ("feature-extraction-hidden-head", ()),
        ("fine-tuning-last-stage", ()),
        ("fine-tuning-late-stages", ()),
        ("fine-tuning", ("backbone_lr_factor=0.1",)),
        ("progressive-unfreezing", ()),
    ]
    for seed in SEEDS:
        data, short = f"two-{seed}", ("batch_size=16", "epochs=24", f"seed={seed}")
        found.append(Experiment("transfer", "scratch", data, "residual-cnn-onecycle", (*short, *scratch), seed))
        for name, changed in rows:
            found.append(Experiment("transfer", name, data, name, (*short, *changed), seed, found[0].name))
    return found


def _few() -> list[Experiment]:
    small = "airplane-frog-small"
    runs = [(name, "few-photos", 0) for name in PETS] + [(small, "few-small", seed) for seed in SEEDS]
    runs += [(name + suffix, "instant-head", 0) for name in PETS for suffix in ("", "-small")]
    return [
        Experiment("few", f"{data} {name}", data, name, (f"seed={seed}",), seed, None, f"{data}-others")
        for data, name, seed in runs
    ]


def _unequal() -> list[Experiment]:
    short = ("epochs=12", "batch_size=32", "lr=0.05", "ema_decay=0")
    return [
        Experiment(
            "unequal", kind, "unequal", "residual-cnn-onecycle", (*short, f"balance={kind}", f"seed={seed}"), seed
        )
        for kind in ("none", "loss", "sampling")
        for seed in SEEDS
    ]


def main() -> None:
    """Make what is missing, then print a line for each row."""
    wanted = _arguments()
    chosen = [one for one in experiments() if one.table in wanted.tables]
    for draw in draws():
        if any(one.data == draw.folder.split("/")[0] or one.others == draw.folder for one in chosen):
            _take(draw, wanted.cifar10, wanted.out / "data")
    scores = [(one, _score(one, wanted.out)) for one in chosen]
    print("\n".join(_lines(scores)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables = list(dict.fromkeys(one.table for one in experiments()))
    parser.add_argument("cifar10", type=Path, metavar="CIFAR10")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables, metavar="TABLE", help=" ".join(tables))
    return parser.parse_args()


def _take(draw: Draw, cifar10: Path, out: Path) -> None:
    folder = out / draw.folder
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        unfinished = Path(name) / "images"
        for label, count in draw.counts.items():
            images = sorted((cifar10 / draw.half / label).iterdir())
            random.Random(f"{draw.seed} {label}").shuffle(images)
            chosen = images[draw.skip : draw.skip + count]
            if len(chosen) < count:
                raise SystemExit(f"{cifar10 / draw.half / label} has {len(images)} images, too few for {folder}")
            (unfinished / label).mkdir(parents=True)
            for image in chosen:
                _copy(image, unfinished / label / image.name, draw.pixels)
        if not folder.is_dir():  # another call may have been faster
            unfinished.rename(folder)


def _copy(image: Path, to: Path, pixels: int | None) -> None:
    if not pixels:
        shutil.copyfile(image, to)
        return
    with Image.open(image) as small:
        small.resize((pixels, pixels), Image.Resampling.BICUBIC).save(to, quality=90)


def _score(one: Experiment, out: Path) -> dict[str, Any]:
    """Train and evaluate where that is not done yet; the figures."""
    run, scores, data = out / "runs" / one.name, out / "scores" / one.name, out / "data"
    if not scores.is_dir():
        settings = [part for pair in one.changed for part in ("--set", pair)]
        source = ["--from", str(out / "runs" / one.source)] if one.source else []
        folder = str(data / one.data) if (data / one.data).is_dir() else one.data
        resume = ["--resume"] if (run / "meta.json").exists() else ["--force"]
        _sightglass("train", folder, "--recipe", one.recipe, "--out", str(run), *source, *settings, *resume)
        others = ["--data", str(data / one.others)] if one.others else []
        _sightglass("evaluate", str(run), "--out", str(scores), *others)
    found: dict[str, Any] = json.loads((scores / "evaluation.json").read_text())
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {key: history[-1][key] for key in ("train_loss", "val_loss")}
    return found | last | {"minutes": sum(epoch["seconds"] for epoch in history) / 60}


def _sightglass(*arguments: str) -> None:
    command = ["sightglass", *arguments]
    print(shlex.join(command), file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "sightglass", *arguments, "--quiet"], check=True, stdout=sys.stderr)


def _lines(scores: Iterable[tuple[Experiment, dict[str, Any]]]) -> list[str]:
    """A Markdown table; of seeds the mean and standard deviation."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one, found in scores:
        rows[one.table, one.row].append(found)
    columns = ("train_loss", "val_loss", "accuracy", "macro_f1", "ece", "minutes")
    lines = [f"| table | run | {' | '.join(columns)} | recall by class |", "|---" * (len(columns) + 3) + "|"]
    for (table, row), seeds in rows.items():
        figures = [_spread([found[column] for found in seeds]) for column in columns]
        recalls = zip(*([each["recall"] for each in found["per_class"]] for found in seeds), strict=True)
        recall = " ".join(f"{statistics.fmean(each):.3f}" for each in recalls)
        lines.append(f"| {table} | {row} | {' | '.join(figures)} | {recall} |")
    return lines


def _spread(figures: list[float]) -> str:
    mean = f"{statistics.fmean(figures):.3f}"
    return f"{mean} +- {statistics.stdev(figures):.3f}" if len(figures) > 1 else mean


if __name__ == "__main__":
    main()
