"""`sightglass explain`: what it writes, what it prints, and where heat lies on a rotated image."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.artifact.decoder.decode import Decoded, decode
from app.artifact.heat import DIM
from app.settings import DEFAULT_MODEL
from tests.commands import Sightglass
from tests.images import drawing, encode
from training.interpretation import figures
from training.interpretation.activations import maps_of
from training.interpretation.figures import InputImage
from training.interpretation.gradcam import grad_cam
from training.models import layer_table, registry
from training.runs.trained_model import TrainedModel

FILES = {"filters.png", "maximised.png", "layers.csv", "activations.csv", "explain.json"}


def overlaid(content: bytes, decoded: Decoded, heat: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(figures.overlay(InputImage(Path("x.png"), content, decoded, torch.zeros(1)), heat))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(400, 240), (30, 44)], ids=["large", "small"])
def test_what_the_model_gets_is_shown_in_its_colours_and_the_rest_dimmed(
    orientation: int, size: tuple[int, int]
) -> None:
    content = encode(drawing(*size, seed=2), orientation=orientation)
    spec = TrainedModel.load(DEFAULT_MODEL).input.model_copy(update={"crop_fraction": 0.8})
    decoded = decode(content, spec)
    shown, at = overlaid(content, decoded, np.zeros((4, 4), np.float32)), decoded.geometry
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert shown.width / shown.height == pytest.approx(expected.width / expected.height, rel=0.01)
    corner = np.asarray(expected.resize(shown.size, Image.Resampling.BICUBIC))[:5, :5]
    assert difference(np.asarray(shown)[:5, :5], corner * DIM) < 6
    x, y = shown.width / at.width, shown.height / at.height
    box = at.left * x, at.top * y, at.right * x, at.bottom * y
    inside = shown.resize((32, 32), Image.Resampling.BICUBIC, box=box)
    assert difference(np.asarray(inside), decoded.pixels) < 6


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heat_lies_on_the_displayed_image_where_the_model_looked(colours_run: Path, orientation: int) -> None:
    """As displayed, one quarter is red and the rest blue: red's Grad-CAM must glow there, whatever the file's turn."""
    upright = Image.new("RGB", (120, 90), (40, 40, 180))
    upright.paste((180, 40, 40), (75, 0, 105, 45))
    turn = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    content = encode(upright.rotate(turn, expand=True), orientation=orientation)
    loaded = TrainedModel.load(colours_run)
    decoded = decode(content, loaded.input)
    x = loaded.normalise(torch.from_numpy(decoded.pixels)[None])
    heat = grad_cam(loaded.network, "features.3", x, loaded.labels.index("red")).numpy()
    plain = overlaid(content, decoded, np.zeros_like(heat))
    assert plain.size == (360, 270)
    glow = np.abs(np.asarray(overlaid(content, decoded, heat)).astype(int) - np.asarray(plain))
    strongest = glow.sum(axis=2)[:, 45:315]  # the square that the model sees
    quarters = {(r, c): strongest[135 * r :, 135 * c :][:135, :135].mean() for r in (0, 1) for c in (0, 1)}
    assert max(quarters, key=lambda place: quarters[place]) == (0, 1)


def test_a_hot_place_glows_in_its_own_cell_of_the_box_and_nowhere_else() -> None:
    content = encode(Image.new("RGB", (360, 120), (90, 90, 90)))
    decoded = decode(content, TrainedModel.load(DEFAULT_MODEL).input)
    heat = np.zeros((4, 4), np.float32)
    plain = overlaid(content, decoded, heat)
    heat[1, 3] = 2
    change = np.asarray(overlaid(content, decoded, heat)).astype(int) - np.asarray(plain)
    rows, columns = np.nonzero(np.abs(change).sum(axis=2) > 60)
    assert (rows.mean(), columns.mean()) == (pytest.approx(44.5, abs=3), pytest.approx(224.5, abs=5))
    assert (columns.min() > 180, columns.max() < 240, rows.max() < 90) == (True, True, True)


def test_it_writes_images_and_tables(sightglass: Sightglass, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(drawing(50, 40)))
    (tmp_path / "b.jpg").write_bytes(encode(drawing(40, 60), "JPEG", orientation=6))
    out = tmp_path / "new" / "out"
    said = sightglass("explain", digits_run, tmp_path / "a.png", tmp_path / "b.jpg", "--out", out, "--steps", 2)
    assert said.code == 0, said.err
    sheets = {f"{number}-{kind}.png" for number in ("01-a", "02-b") for kind in ("gradcam", "maps")}
    assert {path.name for path in out.iterdir()} == FILES | sheets
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 100
    document = json.loads((out / "explain.json").read_text())
    assert [row["file"] for row in document["pictures"]] == [str(tmp_path / "a.png"), str(tmp_path / "b.jpg")]
    rows = list(csv.DictReader(io.StringIO((out / "layers.csv").read_text())))
    assert sum(int(row["parameters"]) for row in rows) == layer_table.parameters(
        registry.build("residual-cnn", 1, 10, 32)
    )
    kinds = [line.split()[0] for line in said.out.splitlines() if not line.startswith(" ")]
    assert kinds[:4] == ["filters", "image", "image", "maximum"]
    assert said.err.startswith(f"saved    {out}: filters.png")


def test_json_is_one_document_about_any_class_and_layer(
    sightglass: Sightglass, digits_artifact: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encode(drawing(50, 40)))
    words = ["--class", "7", "--layer", "features.4", "--steps", 0, "--json", "--quiet"]
    said = sightglass("explain", digits_artifact, file, "--out", tmp_path / "out", *words)
    assert (said.code, said.err) == (0, "")
    document = json.loads(said.out)
    (row,) = document["pictures"]
    assert (row["class"], row["layer"], document["maximised"]) == ("7", "features.4", [])
    loaded = TrainedModel.load(digits_artifact)
    x = loaded.normalise(torch.from_numpy(decode(file.read_bytes(), loaded.input).pixels)[None])
    assert np.shape(row["grad_cam"]) == maps_of(loaded.network, "features.4", x).shape[2:]
    np.testing.assert_allclose(row["grad_cam"], grad_cam(loaded.network, "features.4", x, 7), atol=1e-6)
    served = json.loads(sightglass("predict", digits_artifact, file, "--variant", "onnx", "--top-k", 10, "--json").out)
    expected = {each["class"]: each["probability"] for each in served[0]["top_k"]}
    assert row["class_probability"] == pytest.approx(expected["7"], abs=1e-4)
    assert row["probability"] == pytest.approx(expected[row["prediction"]], abs=1e-4)


@pytest.mark.parametrize("words", [["--input-size", 10_001], ["--steps", 10**9], ["--steps", -1]])
def test_absurd_sizes_and_steps_are_wrong_usage(words: list[object], sightglass: Sightglass) -> None:
    said = sightglass("explain", "mlp", *words)
    assert (said.code, said.out) == (2, "")
    assert f"Invalid value for '{words[0]}'" in said.err


def test_a_dense_network_for_huge_images_is_counted_without_its_memory(sightglass: Sightglass) -> None:
    """Its first layer alone would be 600 GB."""
    rows = json.loads(sightglass("explain", "mlp", "--input-size", 10_000, "--json").out)
    assert sum(row["parameters"] for row in rows) > 3 * 10_000**2 * 512


@pytest.mark.parametrize("number", ["9" * 6, "9" * 200])
def test_a_list_of_absurd_numbers_is_none(number: str, sightglass: Sightglass) -> None:
    said = sightglass("explain", f"3,{number},1")
    assert (said.code, said.out) == (1, "")
    assert "is no list of kernel,stride,padding" in said.err


def test_a_run_and_its_artifact_give_the_same_network(digits_run: Path, digits_artifact: Path) -> None:
    one, other = TrainedModel.load(digits_run), TrainedModel.load(digits_artifact)
    assert (one.labels, one.input) == (other.labels, other.input)
    x = torch.rand(2, 1, one.input.height, one.input.width)
    assert torch.equal(one.network(x), other.network(x))
    assert not one.network.training


def test_without_images_it_shows_filters_and_what_maximises_each_class(
    sightglass: Sightglass, digits_run: Path, tmp_path: Path
) -> None:
    said = sightglass("explain", digits_run, "--out", tmp_path / "out", "--steps", 1, "--json", "--quiet")
    document = json.loads(said.out)
    assert [row["class"] for row in document["maximised"]] == [str(digit) for digit in range(10)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"activations.csv"}


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--class", "17"], 'there is no class "17"', 'did you mean "7"?'),
        (["a.png", "--layer", "feature"], 'there is no layer "feature"', 'did you mean "features"?'),
        (["a.png", "--layer", "head"], 'layer "head" gives 10, no maps', "before pooling"),
        (["--layer", "features"], 'layer "features" answers to images', "name image files"),
        (["missing.png"], '"missing.png" cannot be read: no such file', None),
        (["."], '"." cannot be read: is a directory', None),
        (["--input-size", "8"], "a run or an artifact has its own input size", "leave --input-size out"),
    ],
)
def test_a_wish_that_cannot_be_met_leaves_nothing_behind(
    words: list[str],
    message: str,
    hint: str | None,
    sightglass: Sightglass,
    digits_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(encode(drawing()))
    said = sightglass("explain", digits_run, *words, "--out", "out", "--steps", 0)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"error: {message}")
    assert hint is None or hint in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_existing_folder_is_never_written_into(sightglass: Sightglass, digits_run: Path, tmp_path: Path) -> None:
    said = sightglass("explain", digits_run, "--out", tmp_path)
    assert said.code == 1
    assert "exists already" in said.err


def test_the_layers_of_a_registered_model_need_no_run(sightglass: Sightglass) -> None:
    said = sightglass("explain", "residual-cnn")
    assert said.code == 0
    blocks = [line.split() for line in said.out.splitlines() if "ResidualBlock" in line]
    assert [words[-2] for words in blocks] == ["9", "21", "45"]


def test_the_layers_of_a_list(sightglass: Sightglass) -> None:
    rows = json.loads(sightglass("explain", "3,2,1 3,1,1", "--input-size", 64, "--json").out)
    assert [(row["output"], row["stride"], row["receptive_field"]) for row in rows] == [
        ([32, 32], 2, 3),
        ([32, 32], 2, 7),
    ]
    printed = sightglass("explain", "3,2,1 3,1,1", "--input-size", 64).out.splitlines()
    assert [re.split(r"\s{2,}", line.strip()) for line in printed] == [
        ["layer", "kind", "output", "stride", "sees px"],
        ["1", "3x3 /2", "32x32", "2", "3"],
        ["2", "3x3", "32x32", "2", "7"],
    ]


def test_the_layers_of_a_run_are_at_its_own_size(sightglass: Sightglass, digits_run: Path) -> None:
    rows = json.loads(sightglass("explain", digits_run, "--json").out)
    size = TrainedModel.load(digits_run).input.width
    assert rows[0]["output"] == [32, size, size]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["residual-cn"], 'there is no model "residual-cn"'),
        (["runs/nowhere"], 'there is no folder "runs/nowhere"'),
        (["3,1"], '"3,1" is no list of kernel,stride,padding'),
        (["9,1,0", "--input-size", "4"], "layer 1 has no output left"),
        (["residual-cnn", "cat.jpg"], "images, --class and --layer are about what goes to --out"),
    ],
)
def test_what_has_no_layers_is_an_error(words: list[str], message: str, sightglass: Sightglass) -> None:
    said = sightglass("explain", *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"error: {message}")


def test_the_remedy_for_a_size_that_is_too_small_is_an_option_of_explain(sightglass: Sightglass) -> None:
    said = sightglass("explain", "lenet-5", "--input-size", 10)
    assert said.err.endswith("hint: --input-size 20, or more\n")
