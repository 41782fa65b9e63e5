"""Reports of drawn images, and a reader who finds elements, text and files in a page."""

import base64
import csv
import io
import shutil
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.artifact import manifest
from app.artifact.golden import Golden
from app.artifact.manifest import Manifest
from app.engines import Outputs
from training.data import pixels
from training.data.copies import near_duplicates
from training.data.dataset import Data, Sample
from training.data.statistics import Summary
from training.metrics.classification import Evaluation
from training.report import labelled
from training.runs import checkpoint
from training.runs.checkpoint import Run
from training.runs.schema import Meta
from training.variants import doubt
from training.variants.calibration import Temperature
from training.variants.gates import Verdict
from training.variants.golden import draw
from training.variants.labelled import Labelled
from training.variants.proof import Answers, Proof

ROWS = [
    Verdict(name, file, Proof(179, 0.9, 1.0, 0.0, 0.0, {1: 1.0, 8: 1.0}), 0.0, objection)
    for name, file, objection in [("checkpoint", "", ""), ("onnx", "model.onnx", ""), ("onnx-int8", "x", "1 < 2 & 3")]
]


class Guess:
    """An engine with an opinion about every image, drawn once."""

    device = "cpu"

    def __init__(self, classes: int) -> None:
        self.generator, self.classes = np.random.default_rng(0), classes

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        logits = self.generator.normal(0, 2, (len(batch), self.classes)).astype(np.float32)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        heat = self.generator.normal(size=(len(batch), self.classes, 4, 4)).astype(np.float32)
        return Outputs(probabilities.astype(np.float32), logits, heat)


def encoded(width: int, height: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    draw(width, height, np.random.default_rng(seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass
class Made:
    """A run of drawn images, what is known of it, and where its report goes."""

    folder: Path
    described: Manifest
    evidence: Labelled

    def page(self, rows: list[Verdict] = ROWS, described: Manifest | None = None, **changes: object) -> str:
        described = (described or self.described).model_copy(update={"labels": self.evidence.run.labels})
        labelled.write(self.folder, described, rows, replace(self.evidence, **changes))  # type: ignore[arg-type]
        return (self.folder / "report.html").read_text(encoding="utf-8")


def make(
    tmp_path: Path, run: Path, artifact: Path, labels: tuple[str, ...], each: int = 12, names: tuple[str, ...] = ()
) -> Made:
    """`each` images per class in every split; test's file names begin with `names`."""
    files: dict[str, bytes] = {}
    splits = {}
    for split in ("train", "val", "test"):
        rows = [Sample(f"{split}/{label}/{k:02}.jpg", label) for k in range(each) for label in range(len(labels))]
        if split == "test":
            rows = [Sample(name, rows[k].label) for k, name in enumerate(names)] + rows[len(names) :]
        splits[split] = tuple(rows)
        files |= {sample.path: encoded(60 + k % 7, 40, len(files) + k) for k, sample in enumerate(rows)}
    copied = shutil.copytree(run, tmp_path / "run")
    data = Data("drawn", labels, splits, files.__getitem__)
    opened = Run(copied, Meta.load(copied).model_copy(update={"labels": labels}))
    summaries = {name: Summary(moments=False) for name in splits}
    sets = {name: pixels.load(data, name, opened.input, summary=summaries[name]) for name in splits}
    checkpoint.write_splits(copied, labels, {name: (split.samples, split.sha256) for name, split in sets.items()})
    near_duplicates.save(copied, {name: summary.hashes for name, summary in summaries.items()})
    engine = Guess(len(labels))
    outputs, on_val = (Answers.of(engine.run(sets[name].take(np.arange(len(sets[name]))))) for name in ("test", "val"))
    drawings = Answers.of(engine.run(np.zeros((16, 16, 16, 3), np.uint8)))
    evidence = Labelled(
        run=opened,
        data=data,
        split="test",
        val=sets["val"],
        held_out=sets["test"],
        evaluation=Evaluation.of(labels, sets["test"].labels, outputs.probabilities),
        outputs=outputs,
        on_val=on_val,
        golden=replace(Golden.load(artifact), ood_scores=drawings.ood_scores),
        train=sets["train"],
        judges=None,
        doubt=doubt.fit(sets["val"].labels, [on_val], "max-local-logit"),
        coverage=doubt.COVERAGE,
        checkpoint=engine,
        temperature=Temperature(1.0, len(sets["val"])),
        images=True,
    )
    folder = tmp_path / "out"
    folder.mkdir()
    return Made(folder, manifest.load(artifact), evidence)


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)


VOID = {"meta", "img", "input", "link", "br", "hr"}


class Page(HTMLParser):
    """Every element of a page in order; `text` is all there is to read in it, style sheets excepted."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self.open and any(each.name == tag for each in self.open):
            if self.open.pop().name == tag:
                break

    def handle_data(self, data: str) -> None:
        if not any(each.name == "style" for each in self.open):
            self.text += data
        for each in self.open:
            each.text += data

    def named(self, tag: str, of_class: str = "") -> list[Element]:
        return [
            each
            for each in self.elements
            if each.name == tag and (not of_class or of_class in each.attributes.get("class", "").split())
        ]

    def saved(self, name: str) -> list[list[str]]:
        """The rows of a CSV that the page offers."""
        (link,) = [each for each in self.named("a") if each.attributes.get("download") == name]
        content = base64.b64decode(link.attributes["href"].removeprefix("data:text/csv;base64,")).decode()
        return list(csv.reader(io.StringIO(content)))
