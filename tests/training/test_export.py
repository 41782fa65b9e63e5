"""The export: an artifact that is the checkpoint, or a refusal that leaves nothing."""

import copy
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from app import engines, startup
from app.artifact import manifest
from app.artifact.golden import Golden
from app.artifact.manifest import Manifest
from tests.conftest import QUIET
from tests.training.conftest import Sightglass, hurried
from training import Refused, TrainingError, gates
from training.checkpoint import Run
from training.export import Writers, export
from training.gates import EagerEngine
from training.graph import Servable
from training.pixels import load as load_pixels
from training.variants import WRITERS, write_onnx_int8, write_torchscript

Fault = Callable[[Servable], nn.Module]


class Swapped(nn.Module):
    """Reads BGR where RGB is meant."""

    def __init__(self, servable: Servable) -> None:
        super().__init__()
        self.servable = servable

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.servable(pixels.flip(-1))


def swapped_channels(servable: Servable) -> nn.Module:
    return Swapped(servable).eval()


def one_shuffled_weight(servable: Servable) -> nn.Module:
    """The filters of one convolution in another order."""
    broken = copy.deepcopy(servable)
    convolutions = [each for each in broken.network.modules() if isinstance(each, nn.Conv2d)]
    filters = convolutions[2].weight
    filters.copy_(filters[torch.randperm(len(filters), generator=torch.Generator().manual_seed(0))])
    return broken


def wrong_mean(servable: Servable) -> nn.Module:
    """As if normalisation were left to the caller."""
    broken = copy.deepcopy(servable)
    broken.normalise.offset.zero_()
    return broken


def with_fault(write: Callable[..., None], fault: Fault) -> Callable[..., None]:
    """A writer that is right about everything but the graph."""
    return lambda servable, calibration, path: write(fault(servable), calibration, path)


def change(path: Path, wanted: Callable[[str], bool], how: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Edit the constants of an ONNX file whose names are `wanted`; there must be some."""
    model = onnx.load(path)
    chosen = [each for each in model.graph.initializer if wanted(each.name)]
    assert chosen
    for each in chosen:
        values = numpy_helper.to_array(each)
        each.CopyFrom(numpy_helper.from_array(how(values).astype(values.dtype), each.name))
    onnx.save(model, path)


def write_ruined_int8(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    write_onnx_int8(servable, calibration, path)
    change(path, lambda name: name.endswith("_scale"), lambda scales: scales * 0.1)


def write_fp32_as_int8(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
    """Right in every answer, and no faster."""
    shutil.copy(path.with_name("model.onnx"), path)


def copied(artifact: Path, name: str) -> tuple[str, Callable[..., None]]:
    """A writer that saves the time of writing a variant that another export has already written."""
    file = WRITERS[name][0]
    return file, lambda servable, calibration, path: shutil.copy(artifact / file, path)


def only(monkeypatch: pytest.MonkeyPatch, name: str, writer: tuple[str, Callable[..., None]]) -> None:
    """Let the command write one variant, its own way."""
    for other in set(WRITERS) - {name}:
        monkeypatch.delitem(WRITERS, other)
    monkeypatch.setitem(WRITERS, name, writer)


def proven(run: Path, out: Path, writers: Writers) -> Manifest:
    with hurried():
        return export(Run.open(run), out, None, QUIET, writers)


def eager(run: Path, described: Manifest) -> EagerEngine:
    opened = Run.open(run)
    return EagerEngine(Servable(opened.network(), opened.input.mean, opened.input.std, described.temperature))


def row(artifact: Path, name: str) -> dict[str, Any]:
    """A variant's line of report.json."""
    rows: list[dict[str, Any]] = json.loads((artifact / "report.json").read_text())["variants"]
    return next(each for each in rows if each["name"] == name)


# --- fp32: refused, and nothing is left -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [swapped_channels, one_shuffled_weight])
def test_a_torchscript_that_is_not_the_checkpoint_ends_the_export(
    fault: Fault, colours_run: Path, tmp_path: Path
) -> None:
    writers = {"torchscript": ("model.torchscript.pt", with_fault(write_torchscript, fault))}
    with pytest.raises(Refused, match=r"torchscript refused: (agrees with the checkpoint on|a probability differs)"):
        proven(colours_run, tmp_path / "colours" / "1", writers)
    assert list(tmp_path.iterdir()) == [], "neither the version nor a temporary folder"


@pytest.mark.parametrize(
    ("constant", "how"),
    [
        ("network.features.0.weight", lambda weight: weight[:, ::-1]),
        ("network.features.4.body.0.weight", lambda weight: np.random.default_rng(0).permutation(weight)),
        ("normalise.offset", lambda offset: offset * 0),
    ],
    ids=["swapped channels", "one shuffled weight", "wrong mean"],
)
def test_an_onnx_that_is_not_the_checkpoint_ends_the_export(
    constant: str, how: Callable[..., Any], colours_run: Path, colours_artifact: Path, tmp_path: Path
) -> None:
    def write(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
        shutil.copy(colours_artifact / "model.onnx", path)
        change(path, lambda name: name == constant, how)

    with pytest.raises(Refused, match=r"onnx refused: (agrees with the checkpoint on|a probability differs)"):
        proven(colours_run, tmp_path / "colours" / "1", {"onnx": ("model.onnx", write)})
    assert list(tmp_path.iterdir()) == []


def test_channels_swapped_by_the_exporter_are_found_on_the_golden_pictures_of_a_grey_data_set(
    digits_run: Path, digits_artifact: Path, tmp_path: Path
) -> None:
    """Grey val pictures cannot tell RGB from BGR; people send colour photographs all the same."""
    writers = {
        "torchscript": ("model.torchscript.pt", with_fault(write_torchscript, swapped_channels)),
        "onnx": copied(digits_artifact, "onnx"),
    }
    with pytest.raises(Refused, match="torchscript refused"):
        proven(digits_run, tmp_path / "digits" / "1", writers)


def test_a_refusal_has_exit_code_3_and_says_why(
    colours_run: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "torchscript", (WRITERS["torchscript"][0], with_fault(write_torchscript, wrong_mean)))
    with hurried():
        said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "--quiet")
    assert said.code == 3
    assert said.err.startswith("error: torchscript refused: ")
    assert "\n\nhint: " in said.err
    assert not (tmp_path / "colours" / "1").exists()


# --- INT8: refused, and the rest is kept ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_ruined_int8(colours_run: Path, colours_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported with ruined INT8 scales, and an ONNX graph whose bias is off by less than the gate sees."""

    def write_onnx_slightly_off(servable: Servable, calibration: NDArray[np.uint8], path: Path) -> None:
        shutil.copy(colours_artifact / "model.onnx", path)
        change(path, lambda name: name == "network.head.bias", lambda bias: bias + np.array([3e-5, 0, 0]))

    out = tmp_path_factory.mktemp("exports") / "colours" / "1"
    writers = {
        "onnx": ("model.onnx", write_onnx_slightly_off),
        "onnx-int8": ("model.int8.onnx", write_ruined_int8),
    }
    proven(colours_run, out, writers)
    return out


def test_int8_with_ruined_scales_is_left_out_and_onnx_becomes_the_default(with_ruined_int8: Path) -> None:
    described = manifest.load(with_ruined_int8)
    assert list(described.variants) == ["onnx"]
    assert described.default_variant == "onnx"
    assert not (with_ruined_int8 / "model.int8.onnx").exists()
    assert "model.int8.onnx" not in described.files


def test_the_report_says_why_int8_was_left_out(with_ruined_int8: Path) -> None:
    refused = row(with_ruined_int8, "onnx-int8")
    assert refused["verdict"].startswith("refused: agrees with the checkpoint on")
    assert refused["proof"]["agreement"] < gates.INT8_AGREEMENT
    assert refused["test"] is None, "a refused variant is not measured on test"
    assert refused["verdict"].split("(")[0] in (with_ruined_int8 / "report.html").read_text()


def test_golden_answers_are_the_checkpoints_not_an_exported_graphs(with_ruined_int8: Path, colours_run: Path) -> None:
    described, golden = manifest.load(with_ruined_int8), Golden.load(with_ruined_int8)
    onnx_answers = engines.load("onnx", with_ruined_int8 / "model.onnx", "cpu", 1).run(golden.pixels).probabilities
    eager_answers = eager(colours_run, described).run(golden.pixels).probabilities
    assert np.abs(golden.probabilities - onnx_answers).max() > 1e-5, "the graph is a little off"
    assert np.abs(golden.probabilities - eager_answers).max() < 1e-6


def test_int8_that_is_no_faster_is_left_out(colours_run: Path, colours_artifact: Path, tmp_path: Path) -> None:
    writers = {"onnx": copied(colours_artifact, "onnx"), "onnx-int8": ("model.int8.onnx", write_fp32_as_int8)}
    described = export(Run.open(colours_run), tmp_path / "colours" / "1", None, QUIET, writers)
    refused = row(tmp_path / "colours" / "1", "onnx-int8")
    assert refused["proof"]["agreement"] == 1.0
    assert "x the speed of onnx (limit 1.6x)" in refused["objection"]
    assert described.default_variant == "onnx"


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
    reference = eager(digits_run, described)
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
    expected = eager(digits_run, manifest.load(digits_artifact)).run(golden.pixels).probabilities
    assert len(golden.files) == 16
    assert np.abs(golden.probabilities - expected).max() < 1e-5


def test_weights_travel_with_the_artifact(digits_run: Path, digits_artifact: Path) -> None:
    saved, trained = load_file(digits_artifact / "weights.safetensors"), Run.open(digits_run).network().state_dict()
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[key], trained[key]) for key in saved)


def test_the_temperature_is_the_best_one_on_val(digits_run: Path, digits_artifact: Path) -> None:
    """Neighbours on both sides have a higher (Platt-smoothed) cross-entropy."""
    run, described = Run.open(digits_run), manifest.load(digits_artifact)
    val = load_pixels(run.data(), "val", run.input)
    logits = torch.from_numpy(eager(digits_run, described).run(val.take(np.arange(len(val)))).logits).double()
    n = len(val)
    targets = torch.full((n, 10), 1 / (n + 10)).double()
    targets[torch.arange(n), torch.from_numpy(val.labels)] = (n + 1) / (n + 10)

    def loss(temperature: float) -> float:
        return -(targets * torch.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean().item()

    assert loss(described.temperature) < min(loss(described.temperature * 0.9), loss(described.temperature * 1.1))


def test_the_manifest_says_where_the_model_comes_from(digits_run: Path, digits_artifact: Path) -> None:
    described, run = manifest.load(digits_artifact), Run.open(digits_run)
    assert (described.name, described.version) == ("digits", 1)
    assert (described.labels, described.input) == (run.labels, run.input)
    assert described.provenance["recipe"] == run.recipe.model_dump(mode="json")
    assert described.metrics.score.split == "test"
    assert described.metrics.score.n == 179


def test_the_artifact_starts(digits_artifact: Path) -> None:
    served = startup.start(digits_artifact)
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
        "onnx": copied(colours_artifact, "onnx"),
        "onnx-int8": WRITERS["onnx-int8"],
    }
    out = tmp_path / "colours" / "1"
    described, honest = proven(run, out, writers), manifest.load(colours_artifact)
    assert honest.metrics.score.accuracy > 0.9
    assert described.metrics.score.accuracy < 0.1
    assert described.temperature == honest.temperature
    assert "onnx" in described.variants
    for name in writers:
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


def test_pictures_can_be_left_out_of_the_report(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "onnx", copied(colours_artifact, "onnx"))
    with hurried():
        said = sightglass("export", colours_run, "--out", tmp_path / "colours" / "1", "--no-pictures")
    assert said.code == 0
    page = (tmp_path / "colours" / "1" / "report.html").read_text()
    assert "data:image" not in page
    assert ".png" not in page, "nor file names"
    assert "report.html (without pictures)" in said.err
    assert "data:image" in (colours_artifact / "report.html").read_text()


def test_the_reports_json_has_every_verdict(digits_artifact: Path) -> None:
    document = json.loads((digits_artifact / "report.json").read_text())
    verdicts = {each["name"]: each["verdict"] for each in document["variants"]}
    assert set(verdicts) == {"checkpoint", *WRITERS}
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


@pytest.mark.parametrize("version", ["latest", "v1", "1.0", "0", "-1"])
def test_a_version_is_a_positive_number(version: str, digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not end in a version") as refusal:
        proven(digits_run, tmp_path / "digits" / version, WRITERS)
    assert "exports/NAME/VERSION" in refusal.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_manifest_may_hold_is_refused_before_any_work(digits_run: Path, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it began to write")

    with pytest.raises(TrainingError, match="my digits"):
        proven(digits_run, tmp_path / "my digits" / "1", {"torchscript": ("model.torchscript.pt", never)})


def test_changed_pictures_are_not_exported_from(colours_run: Path, colours_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(colours_data, tmp_path / "data")
    for path in (data / "red").iterdir():
        Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(TrainingError, match="changed or vanished since training"):
        export(Run.open(colours_run), tmp_path / "exports" / "1", str(data), QUIET)


def test_other_data_than_the_runs_are_a_plain_error(colours_run: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        export(Run.open(colours_run), tmp_path / "exports" / "1", "digits", QUIET)


def test_the_command_prints_a_line_per_variant_the_gates_and_the_next_command(
    colours_run: Path, colours_artifact: Path, tmp_path: Path, sightglass: Sightglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real export through the command; only the slow ONNX writer is replaced by a copy of what it wrote."""
    only(monkeypatch, "onnx", copied(colours_artifact, "onnx"))
    out = tmp_path / "colours" / "7"
    with hurried():
        said = sightglass("export", colours_run, "--out", out, "--json")
    assert said.code == 0
    assert json.loads(said.out)["version"] == 7
    lines = said.err.splitlines()
    assert lines[0] == "variant      size MB   top-1   agrees   max dp  ms/image  vs onnx  verdict"
    assert lines[1].split()[0] == "checkpoint"
    assert lines[2].endswith("kept, default")
    assert any(line.startswith("gates    fp32 agrees >= 99.9%") for line in lines)
    assert any(line.startswith("golden   16 images stored; fresh-process self-test ok in") for line in lines)
    assert f"report   {out / 'report.html'} (with pictures of test; --no-pictures leaves them out)" in lines
    assert lines[-1].startswith(f"next     sightglass serve --model {out}")


def test_an_artifact_names_no_path_of_the_machine_that_made_it(digits_artifact: Path) -> None:
    """The exporter notes the source line of every node in the graph, unless it is stopped."""
    for path in digits_artifact.iterdir():
        content = path.read_bytes()
        for word in (str(Path(__file__).parents[2]), "site-packages", str(Path.home())):
            assert word.encode() not in content, f"{path.name}: {word}"
