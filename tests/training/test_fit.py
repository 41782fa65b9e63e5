"""`fit` is of the run and of the artifact: what training saw of a wide image, the service sees."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from app.artifact import manifest
from app.artifact.decoder.decode import decode
from app.artifact.decoder.geometry import Fit
from app.inference import loading
from tests.commands import QUIET, hurried, score
from tests.images import drawing, encode, spec
from training.console.progress import Talk
from training.errors import TrainingError
from training.export import export
from training.interpretation import figures
from training.interpretation.figures import InputImage
from training.learning import plan
from training.recipes import recipe
from training.report.thumbnails import thumbnails
from training.runs.checkpoint import Run
from training.runs.schema import Meta
from training.train import train
from training.variants.writers import WRITERS
from training.weights import pretrained

SETTINGS = ["channels=3", "epochs=6", "batch_size=16", "val_fraction=0.3", "input_size=16"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that differ in the outer quarters of images of 4:1 alone; half of them stand, by EXIF or as they
    are."""
    folder, random = tmp_path_factory.mktemp("wide") / "data", np.random.default_rng(0)
    for name, colour in (("dark", 30), ("light", 220)):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(100, 150, (16, 64, 3), dtype=np.uint8)
            pixels[:, :20] = pixels[:, -20:] = colour
            shown = Image.fromarray(pixels if number % 2 else np.ascontiguousarray(np.rot90(pixels)))
            kind = ("PNG", "JPEG")[number % 4 // 2]
            (folder / name / f"{number}.{kind.lower()}").write_bytes(encode(shown, kind, (1, 3, 6, 8)[number % 4]))
    return folder


@pytest.fixture(scope="module", params=["squash", "pad"])
def run(request: pytest.FixtureRequest, wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("runs") / request.param
    train(plan.make(str(wide), out, "digits", [*SETTINGS, f"fit={request.param}"], device="cpu"), QUIET)
    yield out


def test_what_is_cropped_away_cannot_be_learnt(wide: Path, tmp_path: Path) -> None:
    train(plan.make(str(wide), tmp_path / "run", "digits", SETTINGS, device="cpu"), QUIET)
    assert score(tmp_path / "run").evaluation.accuracy.value < 0.8
    assert "fit" not in json.loads((tmp_path / "run" / "meta.json").read_text())["input"]


def test_a_run_an_artifact_and_the_service_see_the_same(run: Path, wide: Path, tmp_path: Path) -> None:
    fit = run.name
    assert Run.open(run).input.fit == Run.open(run).recipe.fit == fit
    trained = score(run)
    assert trained.evaluation.accuracy.value == 1
    out = tmp_path / "exports" / "wide" / "1"
    with hurried():
        described = export(Run.open(run), out, None, QUIET, {"model.onnx": WRITERS["model.onnx"]})
    assert (described.input.fit, described.schema_version) == (fit, 3)
    assert described.input == manifest.load(out).input
    served = loading.start(out, "auto", "cpu")
    for sample, probabilities in zip(trained.pixels.samples, trained.probabilities, strict=True):
        pixels = decode((wide / sample.path).read_bytes(), served.manifest.input).pixels
        assert served.engine.run(pixels[None]).probabilities[0].argmax() == probabilities.argmax()
    words = (out / "report.html").read_text()
    assert ("whatever its shape" if fit == "squash" else "with grey (114 of 255) around it") in words


def test_a_resumed_run_and_one_that_starts_from_it_keep_its_fit(run: Path, wide: Path, tmp_path: Path) -> None:
    assert plan.make(str(wide), run, resume=True).recipe.fit == run.name
    with pytest.raises(TrainingError, match="other settings"):
        plan.make(str(wide), run, overrides=["fit=crop"], resume=True)
    follows = plan.make(str(wide), tmp_path / "next", "fine-tuning", weights=str(run))
    assert follows.recipe.fit == run.name
    other = plan.make(str(wide), tmp_path / "next", "fine-tuning", ["fit=crop"], weights=str(run))
    assert other.recipe.fit == "crop"


def test_train_says_the_fit_where_it_is_not_the_crop(wide: Path, tmp_path: Path) -> None:
    class Listener(Talk):
        said = ""

        def line(self, text: str) -> None:
            self.said += text + "\n"

    for setting, words in (("fit=pad", "at 16 px (fit pad), "), ("fit=crop", "at 16 px, ")):
        talk = Listener()
        made = plan.make(str(wide), tmp_path / setting, "digits", [*SETTINGS, "epochs=1", setting], device="cpu")
        train(made, talk)
        assert words in talk.said


# --- with weights of others -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's, whose preprocessing is a crop of 0.875."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("settings", "fit", "fraction"),
    [
        ([], "crop", 0.875),
        (["fit=crop"], "crop", 0.875),
        (["fit=pad"], "pad", 1.0),
        (["fit=squash", "crop_fraction=0.9"], "squash", 0.9),
    ],
)
def test_pretrained_weights_stand_another_fit(settings: list[str], fit: Fit, fraction: float, file: Path) -> None:
    asked = recipe.load("fine-tuning", ["model=torchvision/resnet18", f"weights={file}", *settings])
    resolved, found = pretrained.resolve(asked, None, recipe.keys(settings))
    assert (resolved.fit, resolved.crop_fraction, resolved.interpolation) == (fit, fraction, "bilinear")
    assert found
    assert found.input
    assert found.input.mean == (0.485, 0.456, 0.406), "the rest of the preprocessing follows"


def test_a_recipe_of_ones_own_says_the_fit_too(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "my.toml"
    own.write_text((recipe.FOLDER / "fine-tuning.toml").read_text().replace("DEFAULT", str(file)) + '\nfit = "pad"\n')
    assert pretrained.resolve(recipe.load(str(own)), None)[0].fit == "pad"


def test_an_unknown_fit_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"recipe key fit: input should be 'crop', 'squash' or 'pad'"):
        recipe.load("digits", ["fit=stretch"])


def test_a_run_from_before_there_was_a_choice_crops(colours_run: Path) -> None:
    meta = json.loads((colours_run / "meta.json").read_text())
    for part in ("recipe", "asked"):
        meta[part].pop("fit")
    meta["input"].pop("fit", None)
    assert (Meta.model_validate(meta).recipe.fit, Meta.model_validate(meta).input.fit) == ("crop", "crop")


# --- what people see --------------------------------------------------------------------------------------------------


def test_thumbnails_show_the_whole_image_and_frame_what_was_seen() -> None:
    content = encode(drawing(200, 50))
    for fit, crop in (("crop", (37.5, 0, 25, 100)), ("squash", (0, 0, 100, 100)), ("pad", (0, -150, 100, 400))):
        model = spec(16, 16).model_copy(update={"fit": fit})
        (made,) = thumbnails(["x"], lambda _: content, model)
        assert (made.width, made.height) == (128, 32)
        assert made.crop == pytest.approx(crop)
        assert made.seen == pytest.approx(crop if fit == "crop" else (0, 0, 100, 100))


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_heat_map_lies_on_the_image(fit: Fit) -> None:
    """Hot in the last of 4 columns and the lower of two rows in the middle, of the model's square."""
    content, model = encode(Image.new("RGB", (400, 100), "white")), spec(32, 32).model_copy(update={"fit": fit})
    seen, heat = (
        InputImage(Path("x.png"), content, decode(content, model), torch.zeros(1)),
        np.zeros((32, 32), np.float32),
    )
    plain = figures.overlay(seen, heat)
    assert plain.shape == (90, 360, 3)
    heat[17:20, 26:30] = 1
    warm, plain = (
        np.asarray(Image.fromarray(each).convert("L")).astype(int) for each in (figures.overlay(seen, heat), plain)
    )
    rows, columns = np.nonzero(abs(warm - plain) > 10)
    expected = {"crop": (52, 214), "squash": (52, 315), "pad": (73, 315)}[fit]
    assert rows.mean() == pytest.approx(expected[0], abs=6)  # the lower end of what glows lies outside
    assert columns.mean() == pytest.approx(expected[1], abs=2)
