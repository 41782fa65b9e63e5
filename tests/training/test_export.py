"""The export: an artifact that is the checkpoint, and what it says of itself."""

import json
import shutil
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from app import engines
from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.golden import Golden
from app.engines.variants import VARIANTS
from app.inference import loading
from tests.commands import QUIET, Sightglass, hurried
from tests.training.exports import checkpoint, copied, only, proven, row
from training.data.source import index, select
from training.errors import TrainingError
from training.export import export
from training.runs.checkpoint import Run
from training.runs.trained_model import TrainedModel
from training.variants.doubt import measure
from training.variants.labelled import read
from training.variants.proof import Answers
from training.variants.writers import WRITERS

# --- what is kept -----------------------------------------------------------------------------------------------------


def test_every_file_has_its_checksum_in_the_manifest(digits_artifact: Path) -> None:
    described = manifest.load(digits_artifact)
    files = {path.name for path in digits_artifact.iterdir()}
    assert set(described.files) == files - {"manifest.json"}
    assert {"weights.safetensors", "golden.npz", "report.json", "report.html", "model.onnx"} <= files
    for name, recorded in described.files.items():
        assert recorded == manifest.fingerprint(digits_artifact / name)


def test_files_can_be_read_by_another_user(digits_artifact: Path) -> None:
    assert digits_artifact.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in digits_artifact.iterdir()} == {0o644}


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_kept_fp32_variants_are_the_checkpoint_at_any_batch_size(
    name: str, digits_run: Path, digits_artifact: Path
) -> None:
    described = manifest.load(digits_artifact)
    reference = checkpoint(digits_run, described)
    engine = engines.load(name, digits_artifact / described.variants[name].file, "cpu", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    for size in (1, 2, 9):
        found, expected = engine.run(pixels[:size]), reference.run(pixels[:size])
        assert np.abs(found.probabilities - expected.probabilities).max() < 1e-5
        assert np.abs(found.logits - expected.logits).max() < 1e-3
        assert found.heatmap is not None
        assert np.abs(found.heatmap.mean(axis=(2, 3)) - found.logits).max() < 1e-3


def test_golden_answers_are_recomputed_from_the_checkpoint(digits_run: Path, digits_artifact: Path) -> None:
    golden = Golden.load(digits_artifact)
    expected = checkpoint(digits_run, manifest.load(digits_artifact)).run(golden.pixels).probabilities
    assert len(golden.files) == 16
    assert np.abs(golden.probabilities - expected).max() < 1e-5


def test_weights_travel_with_the_artifact(digits_run: Path, digits_artifact: Path) -> None:
    saved = load_file(digits_artifact / "weights.safetensors")
    trained = TrainedModel.load(digits_run).network.state_dict()
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[key], trained[key]) for key in saved)


def test_the_manifest_says_where_the_model_comes_from(digits_run: Path, digits_artifact: Path) -> None:
    described, run = manifest.load(digits_artifact), Run.open(digits_run)
    assert (described.name, described.version) == ("digits", 1)
    assert (described.labels, described.input) == (run.labels, run.input)
    assert described.provenance["recipe"] == run.recipe.model_dump(mode="json")
    assert described.metrics.score.split == "test"
    assert described.metrics.score.n == 179


def test_an_artifact_does_not_say_in_which_folder_its_weights_lay(
    colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(colours_run, tmp_path / "run")
    meta = json.loads((run / "meta.json").read_text())
    meta["recipe"]["weights"] = "/home/anna/w.pth"
    (run / "meta.json").write_text(json.dumps(meta))
    out = tmp_path / "model" / "1"
    with hurried():
        described = export(Run.open(run), out, None, QUIET, {"model.onnx": copied(colours_artifact)})
    assert described.provenance["recipe"]["weights"] == "w.pth"
    assert not [path.name for path in out.iterdir() if b"anna" in path.read_bytes()]


def test_what_calibrates_int8_does_not_judge_it(colours_run: Path, digits_run: Path) -> None:
    """54 images of val are too few to judge by, so half of train joins them; 179 are enough."""
    run = Run.open(colours_run)
    splits = read(run, run.data(), QUIET)
    calibrating, judging = ({each.path for each in splits[name].samples} for name in ("train", "judges"))
    assert (len(splits["val"]), len(calibrating), len(judging)) == (54, 54, 54)
    assert calibrating | judging == {each.path for each in run.data().splits["train"]}
    digits = Run.open(digits_run)
    assert "judges" not in read(digits, digits.data(), QUIET)


def test_a_small_val_is_no_reason_to_refuse_int8(colours_artifact: Path) -> None:
    judged = row(colours_artifact, "onnx-int8")
    assert (judged["proof"]["images"], judged["proof"]["judges"]) == (54, 54)
    assert judged["objection"] == "" or " the speed of onnx" in judged["objection"], "a busy machine may say so"


def test_the_artifact_starts(digits_artifact: Path) -> None:
    served = loading.start(digits_artifact)
    assert served.variant == manifest.load(digits_artifact).default_variant
    assert served.warning == ""


def test_test_labels_decide_nothing(colours_run: Path, colours_artifact: Path, tmp_path: Path) -> None:
    """With every test label wrong the score collapses; temperature and everything that a gate reads stay."""
    run = shutil.copytree(colours_run, tmp_path / "run")
    splits = json.loads((run / "splits.json").read_text())
    following = {"blue": "green", "green": "red", "red": "blue"}
    splits["test"] = [[path, following[label], digest] for path, label, digest in splits["test"]]
    (run / "splits.json").write_text(json.dumps(splits))
    writers = {
        "model.onnx": copied(colours_artifact),
        "model.int8.onnx": WRITERS["model.int8.onnx"],
    }
    out = tmp_path / "colours" / "1"
    described, honest = proven(run, out, writers), manifest.load(colours_artifact)
    assert honest.metrics.score.accuracy > 0.9
    assert described.metrics.score.accuracy < 0.1
    assert described.temperature == honest.temperature
    assert "onnx" in described.variants
    for name in ("onnx", "onnx-int8"):
        found, expected = row(out, name)["proof"], row(colours_artifact, name)["proof"]
        for figure in ("accuracy", "agreement", "difference", "row_sum"):  # CPU time is never twice the same
            assert found[figure] == pytest.approx(expected[figure], abs=1e-6)


# --- the report -------------------------------------------------------------------------------------------------------


class References(HTMLParser):
    """Everything that a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster") or name.startswith("on"):
                self.fetched.append(value or "")


def test_the_report_is_one_file_that_fetches_and_runs_nothing(digits_artifact: Path) -> None:
    page = (digits_artifact / "report.html").read_text()
    found = References()
    found.feed(page)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & found.elements
    assert found.fetched
    assert all(reference.startswith(("#", "data:")) for reference in found.fetched), "only what is in the page itself"
    assert "@import" not in page
    assert page.count("url(") == page.count("url(#")
    assert page.count("<svg") == 5


def test_images_can_be_left_out_of_the_report(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "model.onnx", copied(colours_artifact))
    with hurried():
        said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "--no-pictures")
    assert said.code == 0
    page = (tmp_path / "colours" / "1" / "report.html").read_text()
    assert "data:image" not in page
    assert ".png" not in page, "nor file names"
    assert "report.html (without images)" in said.err
    assert "data:image" in (colours_artifact / "report.html").read_text()


def test_each_kept_variant_says_what_doubt_does_on_test(digits_artifact: Path) -> None:
    described, data = manifest.load(digits_artifact), index("digits")
    assert described.doubt is not None
    assert (described.doubt.n, described.schema_version) == (179, 3)
    test = select(data, "test", json.loads((digits_artifact / "splits.json").read_text())["test"]).splits["test"]
    pixels = np.stack([decode(data.read(sample.path), described.input).pixels for sample in test])
    labels = np.array([sample.label for sample in test])
    for name, variant in described.variants.items():
        found = Answers.of(engines.load(name, digits_artifact / variant.file, "cpu", 1).run(pixels))
        assert variant.doubt is not None
        again = measure(described.doubt, "test", labels, found, variant.doubt.tolerance).model_dump()
        assert again == pytest.approx(variant.doubt.model_dump(), abs=0.011), "two images, on another CPU"


def test_the_reports_json_has_every_verdict(digits_artifact: Path) -> None:
    document = json.loads((digits_artifact / "report.json").read_text())
    verdicts = {each["name"]: each["verdict"] for each in document["variants"]}
    assert set(verdicts) == {"checkpoint", *VARIANTS}
    assert verdicts["checkpoint"] == "reference"
    kept = {name for name, verdict in verdicts.items() if verdict.startswith("kept")}
    assert kept == set(manifest.load(digits_artifact).variants)
    default = [name for name, verdict in verdicts.items() if verdict == "kept, default"]
    assert default == [manifest.load(digits_artifact).default_variant]
    assert document["evaluation"]["n"] == 179
    assert len(document["history"]) == 6


# --- names, versions, data --------------------------------------------------------------------------------------------


def test_a_version_is_never_changed(digits_run: Path, digits_artifact: Path) -> None:
    before = (digits_artifact / "manifest.json").read_bytes()
    with pytest.raises(TrainingError, match="a version is never changed") as refusal:
        proven(digits_run, digits_artifact, WRITERS)
    assert refusal.value.hint == f"--out {digits_artifact.parent / '2'}"
    assert (digits_artifact / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("version", ["latest", "v1", "1.0", "0", "-1", "007", "٣"])
def test_a_version_is_a_positive_number(version: str, digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not end in a version") as refusal:
        proven(digits_run, tmp_path / "digits" / version, WRITERS)
    assert "exports/NAME/VERSION" in refusal.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_manifest_may_hold_is_refused_before_any_work(digits_run: Path, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it began to write")

    with pytest.raises(TrainingError, match="my digits"):
        proven(digits_run, tmp_path / "my digits" / "1", {"model.torchscript.pt": never})


def test_changed_images_are_not_exported_from(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(colours_data, tmp_path / "data")
    for path in (data / "red").iterdir():
        Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(TrainingError, match="changed or vanished since training"):
        export(Run.open(colours_run), tmp_path / "exports" / "1", str(data), QUIET)


def test_other_data_than_the_runs_are_a_plain_error(colours_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="54 of 54 files changed or vanished"):
        export(Run.open(colours_run), tmp_path / "exports" / "1", "digits", QUIET)


def test_the_command_prints_a_line_per_variant_the_gates_and_the_next_command(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real export through the command; only the slow ONNX writer is replaced by a copy of what it wrote."""
    only(monkeypatch, "model.onnx", copied(colours_artifact))
    out = tmp_path / "colours" / "7"
    with hurried():
        said = sightglass("export", colours_run, "--out", out, "--coverage", 0.5, "--json")
    assert said.code == 0
    assert json.loads(said.out)["version"] == 7
    assert json.loads(said.out)["doubt"]["set"]["coverage"] == 0.5
    assert "         sets: labels with p >= " in said.err
    lines = said.err.splitlines()
    assert lines[0] == "variant     size MB   top-1   agrees   max dp  ms/image  vs onnx  verdict"
    assert lines[1].split()[0] == "checkpoint"
    assert lines[2].endswith("kept, default")
    assert any(line.startswith("gates    fp32 agrees >= 99.9%") for line in lines)
    assert any(line.startswith("golden   16 images stored; fresh-process self-test ok in") for line in lines)
    assert f"report   {out / 'report.html'} (with images of test; --no-images leaves them out)" in lines
    assert lines[-1].startswith(f"next     sightglass serve --model {out}")


def test_an_artifact_names_no_path_of_the_machine_that_made_it(digits_artifact: Path) -> None:
    """The exporter notes the source line of every node in the graph, unless it is stopped."""
    for path in digits_artifact.iterdir():
        content = path.read_bytes()
        for word in (str(Path(__file__).parents[2]), "site-packages", str(Path.home())):
            assert word.encode() not in content, f"{path.name}: {word}"


def test_the_traced_graph_asks_for_no_rounding_on_a_gpu(digits_artifact: Path) -> None:
    """TF32, which `aten::_convolution` has as its last input, is further from the checkpoint than its self-test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        graph = torch.jit.load(digits_artifact / "model.torchscript.pt").inlined_graph
    convolutions = [node for node in graph.nodes() if node.kind() == "aten::_convolution"]
    assert convolutions
    assert not any([*node.inputs()][-1].toIValue() for node in convolutions)
