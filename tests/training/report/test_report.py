"""The report of an artifact: what a reader finds in it, with labels and file names that a page could trip over."""

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.report.reports import ROWS, Element, Made, Page, encoded, make
from training.data.copies import near_duplicates
from training.metrics import plots
from training.metrics.classification import Evaluation
from training.runs.checkpoint import Run
from training.variants import doubt

HOSTILE = ("<script>alert(1)</script>", 'a & b" onload="x', "coin_$1_vs_$2", "قطة", "a\u202eb", "n" * 300, "猫")


@pytest.fixture(scope="module")
def drawn(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("drawn"), colours_run, colours_artifact, ("cat", "dog", "owl"), each=20)


@pytest.fixture(scope="module")
def content(drawn: Made) -> str:
    """Written once: its figures take a second and more."""
    return drawn.page()


@pytest.fixture(scope="module")
def read(content: str) -> Page:
    return Page(content)


def image_in(element: Element) -> Image.Image:
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
        "sets",
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


def test_a_cell_of_the_matrix_leads_to_its_images_alone(drawn: Made, content: str, read: Page) -> None:
    counts = np.array(drawn.evidence.evaluation.confusion_matrix)
    for label, predicted in np.argwhere(counts * (1 - np.eye(3, dtype=int))):
        pair = f"pair-{label}-{predicted}"
        (cell,) = [each for each in read.named("a") if each.attributes["href"] == f"#{pair}"]
        assert cell.text == str(counts[label, predicted])
        assert len(read.named("figure", pair)) == counts[label, predicted]
        assert f"#{pair}:target ~ .sheet .card:not(.{pair})" in content
    rows = [["label", "called", "images"], *read.saved("confusions.csv")[1:]]
    assert sum(int(row[2]) for row in rows[1:]) == counts.sum()


def test_small_images_are_enlarged_by_the_page_and_large_ones_shrunk(drawn: Made, read: Page) -> None:
    image = next(each for each in read.named("img") if each.attributes["alt"] == "an image as it is")
    inside = image_in(image)
    assert max(inside.size) in range(60, 67)
    if max(inside.size) <= 64:
        assert image.attributes["class"] == "pixelated"
        assert max(int(image.attributes["width"]), int(image.attributes["height"])) == 128


def test_large_images_become_thumbnails_of_the_whole_image(drawn: Made) -> None:
    wide = replace(drawn.evidence.data, read=lambda _: encoded(700, 350, 1))
    page = Page(drawn.page(data=wide))
    before = next(each for each in page.named("img") if each.attributes["alt"] == "an image as it is")
    assert image_in(before).size == (128, 64)
    frame = next(each for each in page.named("span", "frame"))
    assert frame.attributes["style"] == "left: 25.0%; top: 0.0%; width: 50.0%; height: 100.0%"


def test_without_images_it_holds_neither_images_nor_file_names(drawn: Made) -> None:
    content = drawn.page(images=False)
    page = Page(content)
    assert page.named("img") == []
    assert not any(sample.path in content for rows in drawn.evidence.data.splits.values() for sample in rows)
    assert "exported without images" in page.text
    assert len(page.named("section")) == 11, "every other part is there"
    assert not any(
        sample.path in (drawn.folder / "report.json").read_text() for sample in drawn.evidence.held_out.samples
    )


@pytest.fixture(scope="module")
def hostile(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    names = ("<img src=http://evil>", "latin\udce9.jpg", "tab\tline\nend.jpg", '"><script>1</script>', "x" * 300, "$a$")
    made = make(tmp_path_factory.mktemp("hostile"), colours_run, colours_artifact, HOSTILE, each=6, names=names)
    (made.evidence.run.folder / "skipped.txt").write_text(
        "a\udce9<b>.jpg\t<i>no</i> image: '/home/me/a'\n", errors="surrogateescape"
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
    assert {*HOSTILE, r"latin\udce9.jpg", r"tab\tline\nend.jpg", r"a\udce9<b>.jpg", "<i>no</i> image"} <= texts
    assert "/home/me" not in hostile


def test_two_hundred_classes_and_two_hundred_images_are_less_than_3_megabytes(
    tmp_path: Path, colours_run: Path, colours_artifact: Path
) -> None:
    labels = tuple(f"class {number}" for number in range(200))
    made = make(tmp_path, colours_run, colours_artifact, labels, each=2)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((512, 512)).save(buffer, "JPEG")
    content = made.page(data=replace(made.evidence.data, read=lambda _: buffer.getvalue()))
    page = Page(content)
    assert len(content.encode()) < 3_000_000, "of 200 images of noise, which nothing compresses well"
    assert len(page.named("img", "heat")) == 200
    assert page.named("table", "matrix") == []
    assert "The 25 most frequent confusions" in page.text
    image = next(each for each in page.named("img") if each.attributes["alt"].startswith("Confusion matrix"))
    assert image_in(image).size == (200, 200)
    assert "class 199" in page.text


def test_a_model_without_mistakes_says_so(drawn: Made) -> None:
    labels = drawn.evidence.held_out.labels
    outputs = drawn.evidence.outputs._replace(probabilities=np.eye(3, dtype=np.float32)[labels])
    evaluation = Evaluation.of(drawn.evidence.run.labels, labels, outputs.probabilities)
    page = Page(drawn.page(outputs=outputs, evaluation=evaluation))
    assert f"None: all {len(labels)} test images are called what their label says." in page.text


def test_a_report_on_val_says_that_it_is_too_good(drawn: Made) -> None:
    page = Page(drawn.page(split="val"))
    assert "There is no test split" in page.text
    assert "val has set the threshold" in page.text


def test_copies_of_train_images_are_counted_and_shown(
    tmp_path: Path, colours_run: Path, colours_artifact: Path
) -> None:
    made = make(tmp_path, colours_run, colours_artifact, ("cat", "dog"), each=5)
    run = made.evidence.run
    known = near_duplicates.load(run.folder)
    assert known is not None
    known["test"][3] = known["train"][7]
    with (run.folder / near_duplicates.FILE).open("wb") as file:
        np.savez(file, allow_pickle=False, **known)
    page = Page(made.page())
    assert "nearly the same: the closest 1" in page.text.lower()
    twins = [each for each in page.named("img") if each.attributes["alt"].startswith("one of two")]
    assert len(twins) == 2
    (run.folder / near_duplicates.FILE).unlink()
    assert "not measured" in Page(made.page()).text


def test_images_under_two_labels_are_listed(tmp_path: Path, colours_run: Path, colours_artifact: Path) -> None:
    made = make(tmp_path, colours_run, colours_artifact, ("cat", "dog"), each=5)
    assert "Two labels" not in Page(made.page()).text
    (made.evidence.run.folder / "two_labels.txt").write_text("cat/ö.jpg\tdog/ö.jpg\ncat/1\tdog/1\tcat/2\n", "utf-8")
    text = Page(made.page()).text
    assert "2 images stand under two labels" in text
    assert "cat/ö.jpg" in text
    assert "dog/1" in text
    without = Page(made.page(images=False)).text
    assert "2 images stand under two labels" in without
    assert "dog/1" not in without


def test_the_json_has_the_figures_of_the_page(drawn: Made, read: Page) -> None:
    document = json.loads((drawn.folder / "report.json").read_text())
    assert document["evaluation"]["labels"] == ["cat", "dog", "owl"]
    assert f"the false-alarm rate is {100 * document['unfamiliar']['false_alarm_rate']:.1f} %" in read.text
    assert document["probable_wrong_labels"] > 0


def test_sets_are_told_with_their_sizes_and_what_each_variant_says(drawn: Made) -> None:
    evidence = drawn.evidence
    assert evidence.sets.covered is not None
    said = doubt.measure(evidence.doubt, "test", evidence.held_out.labels, evidence.outputs, 0.1)
    page = Page(drawn.page(rows=[*ROWS[:2], replace(ROWS[2], doubt=said)]))
    assert f"Sets: {evidence.sets}." in page.text
    assert f"the right label is in {100 * evidence.sets.covered.value:.1f} % of them" in page.text
    sizes = dict(evidence.sets.counts())
    assert sum(sizes.values()) == len(evidence.held_out)
    assert sum(size * n for size, n in sizes.items()) / len(evidence.held_out) == pytest.approx(said.set_size)
    (row,) = [each for each in page.named("tr") if each.text.startswith("onnx-int8") and each.text.count("%") == 2]
    assert f"{100 * evidence.sets.covered.value:.1f} %" in row.text
    assert json.loads((drawn.folder / "report.json").read_text())["variants"][2]["doubt"] == said.model_dump()


def test_the_command_in_the_report_names_no_folder_of_this_machine(drawn: Made) -> None:
    words = ["train", "/home/me/photos", "--out=/home/me/runs/x", "--set", "weights=/home/me/w.pth", "--set", "lr=0.1"]
    meta = drawn.evidence.run.meta.model_copy(update={"command": ["/opt/bin/sightglass", *words]})
    page = Page(drawn.page(run=replace(drawn.evidence.run, meta=meta)))
    assert "sightglass train photos --out=x --set weights=w.pth --set lr=0.1" in page.text
    assert "/home/me" not in page.text


@pytest.mark.parametrize(("balance", "best", "score"), [("none", 1, "accuracy on val"), ("loss", 2, "macro F1 on val")])
def test_the_best_epoch_is_told_by_the_score_that_chose_it(
    balance: str, best: int, score: str, drawn: Made, tmp_path: Path
) -> None:
    run = drawn.evidence.run
    folder = shutil.copytree(run.folder, tmp_path / "run")
    rows = [
        run.history()[0] | {"epoch": epoch, "val_accuracy": accuracy, "val_macro_f1": f1}
        for epoch, accuracy, f1 in ((1, 0.9, 0.2), (2, 0.5, 0.4))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = run.recipe.model_copy(update={"balance": balance})
    run = Run(folder, run.meta.model_copy(update={"recipe": recipe}))
    assert f"epoch {best}, the one with the highest {score}" in drawn.page(run=run)
    axes = plots.curves(run).axes[1]
    assert axes.get_ylabel() == score
    assert axes.lines[1].get_xdata() == [best]
