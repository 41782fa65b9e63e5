"""Where a network starts: files, runs and artifacts."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.commands import QUIET
from tests.training import colours
from training.console.progress import Talk
from training.errors import TrainingError
from training.learning import plan
from training.models import registry
from training.models.heads import Network
from training.recipes import recipe
from training.recipes.recipe import Recipe
from training.runs import checkpoint
from training.runs.trained_model import TrainedModel, untrained
from training.train import rehearse, train
from training.weights import pretrained

LABELS = ("a", "b", "c")


def chosen(**keys: object) -> Recipe:
    return recipe.load("digits").model_copy(update={"channels": 3, "input_size": 32, **keys})


def network(classes: int, seed: int, name: str = "residual-cnn") -> Network:
    torch.manual_seed(seed)
    return registry.build(name, 3, classes, 64 if "/" in name else 32)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("key", [None, "network", "state_dict", "model_state_dict", "model"])
def test_a_file_fills_the_features_and_leaves_the_head(tmp_path: Path, key: str | None) -> None:
    donor, subject = network(10, 1), network(3, 2)
    state = donor.state_dict()
    torch.save({key: state} if key else state, tmp_path / "w.pth")
    _, found = pretrained.resolve(chosen(weights=str(tmp_path / "w.pth")), None)
    assert found is not None
    head = subject.head.weight.clone()
    assert found.copy_into(subject, LABELS, "residual-cnn") is False
    assert same(subject.features, donor.features)
    assert torch.equal(subject.head.weight, head)


def test_safetensors_and_data_parallel_names_are_read(tmp_path: Path) -> None:
    donor, subject = network(3, 1), network(3, 2)
    save_file({f"module.{name}": tensor for name, tensor in donor.state_dict().items()}, tmp_path / "w.safetensors")
    _, found = pretrained.resolve(chosen(), str(tmp_path / "w.safetensors"))
    assert found is not None
    found.copy_into(subject, LABELS, "residual-cnn")
    assert same(subject.features, donor.features)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_torchvisions_own_files_fit_and_bring_their_preprocessing(tmp_path: Path, name: str) -> None:
    import torchvision

    torch.manual_seed(3)
    donor = torchvision.models.get_model(name, weights=None)
    published = {key: value for key, value in donor.state_dict().items() if "num_batches" not in key}
    torch.save(published, tmp_path / "w.pth")  # files from before PyTorch 0.4.1 have no counters
    asked = chosen(model=f"torchvision/{name}", input_size=64, interpolation="bicubic", weights=str(tmp_path / "w.pth"))
    resolved, found = pretrained.resolve(asked, None)
    assert found is not None
    assert found.input is not None
    assert found.input.mean == (0.485, 0.456, 0.406)
    assert resolved.crop_fraction == 0.875
    assert resolved.interpolation == ("bicubic" if name == "efficientnet_b0" else "bilinear")
    subject = network(3, 4, f"torchvision/{name}")
    found.copy_into(subject, LABELS, "residual-cnn")
    before = torch.rand(2, 3, 64, 64)
    donor.eval(), subject.eval()
    last = [module for module in donor.modules() if isinstance(module, torch.nn.Linear)][-1]
    subject.head = last
    assert torch.allclose(subject(before), donor(before), atol=1e-5)


ONE_OF_EACH = [
    "alexnet",
    "densenet121",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_32",
    "wide_resnet50_2",
    "convnext_tiny",
]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_family_of_torchvision_takes_its_own_names(name: str) -> None:
    import torchvision

    size = 299 if name == "inception_v3" else 224
    sides = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        donor = torchvision.models.get_model(name, weights=None, **sides)
        subject = registry.build(f"torchvision/{name}", 3, 3, size)
    pretrained.Weights("w.pth", donor.state_dict()).copy_into(subject, LABELS, "residual-cnn")


def test_the_old_names_of_densenets_files_are_known() -> None:
    import torchvision

    with torch.device("meta"):
        donor, subject = torchvision.models.densenet121(), registry.build("torchvision/densenet121", 3, 3, 224)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): t for key, t in donor.state_dict().items()}
    assert any("norm.1.weight" in key for key in old)
    pretrained.Weights("w.pth", old).copy_into(subject, LABELS, "residual-cnn")


def test_networks_that_normalise_anew_get_what_comes_out_of_that(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pth")
    keys = {"model": "torchvision/googlenet", "input_size": 224, "weights": str(tmp_path / "w.pth")}
    _, found = pretrained.resolve(chosen(**keys), None)
    assert found is not None
    assert found.input is not None
    assert found.input.mean == found.input.std == (0.5, 0.5, 0.5)


def test_what_is_set_and_at_odds_with_the_weights_is_an_error(colours_run: Path) -> None:
    asked = recipe.load("fine-tuning", ["model=residual-cnn", "interpolation=bicubic"])
    with pytest.raises(TrainingError, match="interpolation follows the weights of "):
        pretrained.resolve(asked, str(colours_run), {"interpolation"})
    with pytest.raises(TrainingError, match="model follows the weights"):
        pretrained.resolve(recipe.load("fine-tuning", ["model=lenet-5"]), str(colours_run), {"model"})


def test_another_input_size_may_be_asked_for_and_flips_follow_the_source(colours_run: Path) -> None:
    resolved, _ = pretrained.resolve(recipe.load("fine-tuning", ["input_size=24"]), str(colours_run), {"input_size"})
    assert resolved.input_size == 24
    assert resolved.flip is False, "the digits recipe has none, and fine-tuning's would teach mirrored digits"
    resolved, _ = pretrained.resolve(recipe.load("fine-tuning", ["flip=true"]), str(colours_run), {"flip"})
    assert resolved.flip is True


def test_a_recipe_that_the_sources_size_does_not_fit_is_an_error_at_once(colours_run: Path) -> None:
    with pytest.raises(TrainingError, match="cutout 40 is larger than the image"):
        pretrained.resolve(recipe.load("few-photos", ["cutout=40"]), str(colours_run))


def test_the_same_labels_keep_their_head(digits_run: Path) -> None:
    resolved, found = pretrained.resolve(recipe.load("fine-tuning"), str(digits_run))
    assert found is not None
    assert (resolved.model, resolved.input_size, resolved.channels) == ("residual-cnn", 16, 1)
    subject = untrained(resolved, 10)
    assert found.copy_into(subject, found.labels, "residual-cnn") is True
    assert same(subject, TrainedModel.load(digits_run).network)


def test_an_artifact_gives_what_its_run_gives(digits_run: Path, digits_artifact: Path) -> None:
    of_run = pretrained.resolve(recipe.load("fine-tuning"), str(digits_run))
    of_artifact = pretrained.resolve(recipe.load("fine-tuning"), str(digits_artifact))
    assert of_run[0] == of_artifact[0]
    assert of_run[1] is not None
    assert of_artifact[1] is not None
    assert of_run[1].input == of_artifact[1].input
    assert of_run[1].labels == of_artifact[1].labels
    assert all(torch.equal(of_run[1].state[name], tensor) for name, tensor in of_artifact[1].state.items())


def test_a_file_of_a_run_or_an_artifact_gives_what_its_folder_gives(digits_run: Path, digits_artifact: Path) -> None:
    for file in (digits_run / "weights.pt", digits_artifact / "weights.safetensors"):
        of_folder, folders = pretrained.resolve(recipe.load("fine-tuning"), str(file.parent))
        of_file, files = pretrained.resolve(recipe.load("fine-tuning"), str(file))
        assert of_file == of_folder
        assert files is not None
        assert folders is not None
        assert files.name == str(file), "what --resume with the same command compares with"
        assert (files.input, files.labels) == (folders.input, folders.labels)


def test_a_file_of_another_name_beside_a_run_is_read_itself(digits_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run, tmp_path / "run")
    torch.save(network(3, 1).state_dict(), run / "mine.pt")
    _, found = pretrained.resolve(chosen(), str(run / "mine.pt"))
    assert found is not None
    assert found.input is None


def test_a_lone_file_is_said_to_bring_no_preprocessing(
    colours_run: Path, colours_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(colours_run / "weights.pt", tmp_path / "weights.pt")
    own = checkpoint.Run.open(colours_run).recipe
    keys = [f'model="{own.model}"', f"input_size={own.input_size}", f"channels={own.channels}", "epochs=1"]
    for source in (tmp_path / "weights.pt", colours_run / "weights.pt"):
        planned = plan.make(str(colours_data), tmp_path / "run", "digits", keys, weights=str(source))
        rehearse(planned, Talk(bars=False))
        said = f"nothing says what preprocessing {source} learnt with: mean and deviation are measured"
        assert (said in capsys.readouterr().err) == (source.parent == tmp_path)


def test_transfer_freezes_swaps_the_head_and_keeps_the_preprocessing(
    colours_run: Path, digits_run: Path, tmp_path: Path
) -> None:
    """From three colours to two others: the features stay as they are, mean and std too."""
    data = colours.write(tmp_path / "data", each=20)
    (data / sorted(path.name for path in data.iterdir())[0]).rename(data / "zebra")
    settings = ["epochs=2", "batch_size=8"]
    planned = plan.make(str(data), tmp_path / "run", "feature-extraction", settings, weights=str(colours_run))
    train(planned, QUIET)
    old, new = TrainedModel.load(colours_run), TrainedModel.load(tmp_path / "run")
    assert new.input == old.input
    assert same(new.network.features, old.network.features)
    assert not torch.equal(new.network.head.weight, old.network.head.weight)
    assert checkpoint.Run.open(tmp_path / "run").meta.weights == str(colours_run)


def test_a_run_that_started_from_weights_resumes_without_them(colours_run: Path, tmp_path: Path) -> None:
    data, source = colours.write(tmp_path / "data", each=10), tmp_path / "w.pth"
    torch.save(checkpoint.load(colours_run / "weights.pt")["network"], source)
    own = checkpoint.Run.open(colours_run).recipe
    keys = [
        f'model="{own.model}"',
        f"input_size={own.input_size}",
        f"channels={own.channels}",
        "epochs=1",
        "schedule=constant",
    ]
    out = tmp_path / "run"
    train(plan.make(str(data), out, "digits", [*keys, "batch_size=8"], weights=str(source)), QUIET)
    source.unlink()
    meta = json.loads((out / "meta.json").read_text())
    meta["recipe"]["epochs"] = 2
    (out / "meta.json").write_text(json.dumps(meta))
    train(plan.make(str(data), out, resume=True), QUIET)
    assert len(checkpoint.Run.open(out).history()) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.pth", "there is no run, artifact or weights file"),
        ("damaged.pth", "is damaged, or holds more"),
        ("numbers.pth", "holds more than tensors"),
        ("list.pth", "holds more than tensors"),
        ("named.pth", "holds more than tensors"),
        ("module.pth", "is damaged, or holds more"),
    ],
)
def test_a_file_that_is_no_weights_is_said(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"x")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"model": "resnet18", "weights": {}}, tmp_path / "named.pth")
    torch.save(network(3, 1), tmp_path / "module.pth")
    with pytest.raises(TrainingError, match=message):
        pretrained.resolve(chosen(), str(tmp_path / name))


def test_a_recipes_weights_are_a_file_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no weights file"):
        pretrained.resolve(chosen(weights=str(tmp_path)), None)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(network(3, 1, "depthwise-cnn").state_dict(), tmp_path / "w.pth")
    _, found = pretrained.resolve(chosen(), str(tmp_path / "w.pth"))
    assert found is not None
    with pytest.raises(TrainingError, match="does not fit residual-cnn: "):
        found.copy_into(network(3, 1), LABELS, "residual-cnn")


def test_an_empty_folder_to_start_from_is_neither_a_run_nor_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is neither a run nor an artifact") as refusal:
        pretrained.resolve(chosen(), str(tmp_path))
    assert "sightglass export" in refusal.value.hint
