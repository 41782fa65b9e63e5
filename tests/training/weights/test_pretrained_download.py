"""torchvision's weights, fetched by torch: with a network and without."""

import hashlib
import socket
from pathlib import Path

import pytest
import torch
import torchvision

from training.errors import TrainingError
from training.recipes import recipe
from training.weights import pretrained


def test_a_download_leaves_stdout_to_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    file = (tmp_path / "w.pth").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torchvision.models.ResNet18_Weights.DEFAULT.value, "url", file.as_uri())
    _, found = pretrained.resolve(recipe.load("feature-extraction"), None)
    assert found is not None
    assert torch.equal(found.state["conv1.weight"], torch.ones(1))
    assert (tmp_path / "cache" / "hub" / "checkpoints" / file.name).is_file()
    said = capsys.readouterr()
    assert said.out == ""
    assert "Downloading: " in said.err


def test_without_a_network_both_ways_to_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(TrainingError, match="not here and cannot be downloaded") as refusal:
            pretrained.resolve(recipe.load("feature-extraction"), None)
    assert "--from resnet18-f37072fd.pth" in refusal.value.hint
    assert "from scratch" in refusal.value.hint


def test_offline_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(TrainingError, match="torchvision/resnet18 are not on this machine"):
        pretrained.resolve(recipe.load("feature-extraction"), None, offline=True)
    _, found = pretrained.resolve(recipe.load("instant-head"), None, offline=True)
    assert found is not None


def test_a_network_that_nobody_publishes_weights_of() -> None:
    with pytest.raises(TrainingError, match='nobody publishes weights of "residual-cnn"'):
        pretrained.resolve(recipe.load("digits", ["weights=DEFAULT"]), None)
