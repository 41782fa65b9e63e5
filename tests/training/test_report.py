"""The report of an artifact: what a reader finds in it, with labels and file names that a page could trip over."""

import base64
import csv
import io
import json
import shutil
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact import manifest
from app.artifact.manifest import Manifest
from app.engines import Outputs
from training import checkpoint, duplicates, pixels, report
from training.checkpoint import Run
from training.drawings import draw
from training.gates import Proof, Verdict
from training.samples import Data, Sample
from training.score import Evaluation

ROWS = [
    Verdict(name, file, Proof(0.9, 1.0, 0.0, 0.0, {1: 1.0, 8: 1.0}), 0.0, objection)
    for name, file, objection in [("checkpoint", "", ""), ("onnx", "model.onnx", ""), ("onnx-int8", "x", "1 < 2 & 3")]
]
HOSTILE = ("<script>alert(1)</script>", 'a & b" onload="x', "coin_$1_vs_$2", "قطة", "a\u202eb", "n" * 300, "猫")


class Guess:
    """An engine with an opinion about every picture, drawn once."""

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
    """A run of drawn pictures, what is known of it, and where its report goes."""

    folder: Path
    described: Manifest
    evidence: report.Evidence

    def page(self, rows: list[Verdict] = ROWS, **changes: object) -> str:
        described = self.described.model_copy(update={"labels": self.evidence.run.labels})
        report.write(self.folder, described, rows, replace(self.evidence, **changes))  # type: ignore[arg-type]
        return (self.folder / "report.html").read_text(encoding="utf-8")


def make(
    tmp_path: Path, run: Path, artifact: Path, labels: tuple[str, ...], each: int = 12, names: tuple[str, ...] = ()
) -> Made:
    """`each` pictures per class in every split; test's file names begin with `names`."""
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
    opened = replace(Run.open(copied), labels=labels)
    sets = {name: pixels.load(data, name, opened.input) for name in splits}
    checkpoint.write_splits(copied, labels, {name: (split.samples, split.sha256) for name, split in sets.items()})
    duplicates.save(copied, sets)
    engine = Guess(len(labels))
    outputs = engine.run(sets["test"].take(np.arange(len(sets["test"]))))
    evidence = report.Evidence(
        run=opened,
        data=data,
        split="test",
        val=sets["val"],
        held_out=sets["test"],
        evaluation=Evaluation.of(labels, sets["test"].labels, outputs.probabilities),
        outputs=outputs,
        val_logits=engine.run(sets["val"].take(np.arange(len(sets["val"])))).logits,
        drawings=engine.run(np.zeros((16, 16, 16, 3), np.uint8)),
        checkpoint=engine,
        temperature=1.0,
        pictures=True,
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


@pytest.fixture(scope="module")
def drawn(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("drawn"), colours_run, colours_artifact, ("cat", "dog", "owl"), each=20)


@pytest.fixture(scope="module")
def read(drawn: Made) -> Page:
    return Page(drawn.page())


def picture(element: Element) -> Image.Image:
    """The image inside an element's data: URI."""
    kind, _, content = element.attributes["src"].partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_parts_come_in_the_order_of_a_readers_questions(read: Page) -> None:
    sections = [each.attributes["id"] for each in read.named("section")]
    assert sections == [
        "mistakes",
        "classes",
        "confusions",
        "confidence",
        "variants",
        "curves",
        "data",
        "seen",
        "unfamiliar",
        "provenance",
    ]
    links = [each.attributes["href"] for each in read.named("a") if "download" not in each.attributes]
    ids = [each.attributes["id"] for each in read.elements if "id" in each.attributes]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids), "every link leads somewhere in the page"


def test_every_figure_can_be_read_as_numbers_and_says_how(read: Page) -> None:
    starts = [read.elements.index(each) for each in read.named("section")]
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        section = read.elements[start:end]
        assert any(each.attributes.get("class") == "how" for each in section), section[0].attributes["id"]
        if any(each.name == "svg" for each in section):
            numbers = [each for each in section if each.name == "table" or "download" in each.attributes]
            assert numbers, section[0].attributes["id"]
    assert len(read.named("svg")) == 5
    assert read.saved("epochs.csv")[0][:3] == ["epoch", "train_loss", "val_loss"]
    assert read.saved("coverage.csv")[0] == ["confidence", "coverage", "accuracy"]
    assert float(read.saved("coverage.csv")[1][1]) == 1


def test_every_mistake_is_shown_with_its_label_answer_and_path(drawn: Made, read: Page) -> None:
    evidence = drawn.evidence
    predicted = evidence.outputs.probabilities.argmax(axis=1)
    wrong = {s.path for s, p in zip(evidence.held_out.samples, predicted, strict=True) if s.label != p}
    cards = read.named("figure", "card")
    shown = {each.text for each in read.named("code")} & wrong
    assert shown == wrong
    assert {row[0] for row in read.saved("mistakes.csv")[1:]} == wrong
    with_heat = [each for each in cards if "tabindex" in each.attributes]
    assert len(with_heat) == len(wrong)
    assert len(read.named("img", "heat")) == len(wrong)


def test_confident_contradictions_come_first(drawn: Made, read: Page) -> None:
    probabilities = drawn.evidence.outputs.probabilities
    wrong = probabilities.argmax(axis=1) != drawn.evidence.held_out.labels
    sure = np.flatnonzero(wrong & (probabilities.max(axis=1) > 0.9))
    assert len(sure) > 1
    first, other = (read.text.index(words) for words in ("Likely wrong labels", "Other mistakes"))
    paths = [drawn.evidence.held_out.samples[k].path for k in sure]
    assert all(first < read.text.index(path) < other for path in paths)
    assert f"Likely wrong labels: {len(sure)} wrong with p > 0.9" in read.text


def test_a_cell_of_the_matrix_leads_to_its_pictures_alone(drawn: Made, read: Page) -> None:
    counts = np.array(drawn.evidence.evaluation.confusion_matrix)
    for label, predicted in np.argwhere(counts * (1 - np.eye(3, dtype=int))):
        pair = f"pair-{label}-{predicted}"
        (cell,) = [each for each in read.named("a") if each.attributes["href"] == f"#{pair}"]
        assert cell.text == str(counts[label, predicted])
        assert len(read.named("figure", pair)) == counts[label, predicted]
        assert f"#{pair}:target ~ .sheet .card:not(.{pair})" in drawn.page()
    rows = [["label", "called", "pictures"], *read.saved("confusions.csv")[1:]]
    assert sum(int(row[2]) for row in rows[1:]) == counts.sum()


def test_small_pictures_are_enlarged_by_the_page_and_large_ones_shrunk(drawn: Made, read: Page) -> None:
    image = next(each for each in read.named("img") if each.attributes["alt"] == "a picture as it is")
    inside = picture(image)
    assert max(inside.size) in range(60, 67)
    if max(inside.size) <= 64:
        assert image.attributes["class"] == "pixelated"
        assert max(int(image.attributes["width"]), int(image.attributes["height"])) == 128


def test_large_pictures_become_thumbnails_of_the_whole_picture(drawn: Made) -> None:
    wide = replace(drawn.evidence.data, read=lambda _: encoded(700, 350, 1))
    page = Page(drawn.page(data=wide))
    before = next(each for each in page.named("img") if each.attributes["alt"] == "a picture as it is")
    assert picture(before).size == (128, 64)
    frame = next(each for each in page.named("span", "frame"))
    assert frame.attributes["style"] == "left: 25.0%; top: 0.0%; width: 50.0%; height: 100.0%"


def test_without_pictures_it_holds_neither_pictures_nor_file_names(drawn: Made) -> None:
    content = drawn.page(pictures=False)
    page = Page(content)
    assert page.named("img") == []
    assert not any(sample.path in content for rows in drawn.evidence.data.splits.values() for sample in rows)
    assert "exported without pictures" in page.text
    assert len(page.named("section")) == 10, "every other part is there"
    assert not any(
        sample.path in (drawn.folder / "report.json").read_text() for sample in drawn.evidence.held_out.samples
    )


@pytest.fixture(scope="module")
def hostile(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    names = ("<img src=http://evil>", "latin\udce9.jpg", "tab\tline\nend.jpg", '"><script>1</script>', "x" * 300, "$a$")
    made = make(tmp_path_factory.mktemp("hostile"), colours_run, colours_artifact, HOSTILE, each=6, names=names)
    (made.evidence.run.folder / "skipped.txt").write_text(
        "a\udce9<b>.jpg\t<i>no</i> picture: '/home/me/a'\n", errors="surrogateescape"
    )
    return made.page()


def test_labels_paths_and_reasons_are_text_not_markup(hostile: str) -> None:
    page = Page(hostile)
    assert page.named("script") == []
    assert not any(name.startswith("on") for each in page.elements for name in each.attributes)
    assert all(
        value.startswith(("#", "data:"))
        for each in page.elements
        for name, value in each.attributes.items()
        if name in ("src", "href")
    )
    assert {"i", "b"} & {each.name for each in page.elements} <= {"b"}, "only our own bold"
    for label in HOSTILE:
        assert label in page.text
    assert "1 < 2 & 3" in page.text


def test_names_keep_their_writing_direction_to_themselves_and_are_always_utf8(hostile: str) -> None:
    texts = {each.text for each in Page(hostile).named("bdi")}
    assert {*HOSTILE, r"latin\udce9.jpg", r"tab\tline\nend.jpg", r"a\udce9<b>.jpg", "<i>no</i> picture"} <= texts
    assert "/home/me" not in hostile


def test_two_hundred_classes_and_two_hundred_pictures_are_less_than_3_megabytes(
    tmp_path: Path, colours_run: Path, colours_artifact: Path
) -> None:
    labels = tuple(f"class {number}" for number in range(200))
    made = make(tmp_path, colours_run, colours_artifact, labels, each=2)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((512, 512)).save(buffer, "JPEG")
    content = made.page(data=replace(made.evidence.data, read=lambda _: buffer.getvalue()))
    page = Page(content)
    assert len(content.encode()) < 3_000_000, "of 200 pictures of noise, which nothing compresses well"
    assert len(page.named("img", "heat")) == 200
    assert page.named("table", "matrix") == []
    assert "The 25 most frequent confusions" in page.text
    image = next(each for each in page.named("img") if each.attributes["alt"].startswith("Confusion matrix"))
    assert picture(image).size == (200, 200)
    assert "class 199" in page.text


def test_a_model_without_mistakes_says_so(drawn: Made) -> None:
    labels = drawn.evidence.held_out.labels
    outputs = Outputs(np.eye(3, dtype=np.float32)[labels], drawn.evidence.outputs.logits, None)
    evaluation = Evaluation.of(drawn.evidence.run.labels, labels, outputs.probabilities)
    page = Page(drawn.page(outputs=outputs, evaluation=evaluation))
    assert f"None: all {len(labels)} test pictures are called what their label says." in page.text


def test_a_report_on_val_says_that_it_is_too_good(drawn: Made) -> None:
    page = Page(drawn.page(split="val"))
    assert "There is no test split" in page.text
    assert "on val it is 5 % by definition" in page.text


def test_copies_of_train_pictures_are_counted_and_shown(
    tmp_path: Path, colours_run: Path, colours_artifact: Path
) -> None:
    made = make(tmp_path, colours_run, colours_artifact, ("cat", "dog"), each=5)
    run = made.evidence.run
    known = duplicates.load(run.folder)
    assert known is not None
    known["test"][3] = known["train"][7]
    with (run.folder / duplicates.FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **known)
    page = Page(made.page())
    assert "nearly the same: the closest 1" in page.text.lower()
    twins = [each for each in page.named("img") if each.attributes["alt"].startswith("one of two")]
    assert len(twins) == 2
    (run.folder / duplicates.FILE).unlink()
    assert "not measured" in Page(made.page()).text


def test_the_json_has_the_figures_of_the_page(drawn: Made, read: Page) -> None:
    document = json.loads((drawn.folder / "report.json").read_text())
    assert document["evaluation"]["labels"] == ["cat", "dog", "owl"]
    assert 0 <= document["unfamiliar"]["false_alarm_rate"] <= 1
    assert {"confidence", "coverage", "accuracy", "val_accuracy"} == set(document["reject_below"])
    assert document["probable_wrong_labels"] > 0


def test_the_command_in_the_report_names_no_folder_of_this_machine(drawn: Made) -> None:
    meta = drawn.evidence.run.meta | {"command": ["/opt/bin/sightglass", "train", "/home/me/photos", "--out", "runs/x"]}
    page = Page(drawn.page(run=replace(drawn.evidence.run, meta=meta)))
    assert "sightglass train photos --out runs/x" in page.text
    assert "/home/me" not in page.text


def test_the_verdict_table_shows_what_was_measured(digits_artifact: Path) -> None:
    described = manifest.load(digits_artifact)
    lines = report.verdict(ROWS, described, range(179))  # type: ignore[arg-type]
    assert "reference" in lines[1]
    assert lines[2].split()[1] == f"{described.files['model.onnx'].size_bytes / 1e6:.1f}"
    assert lines[3].endswith("refused: 1 < 2 & 3")
    assert all(limit in lines[4] for limit in ("99.9%", "98%", "0.5 pt", "1.6x"))
    assert "179 val images" in lines[5]
