"""Where a network learns. No machine here has an Apple GPU: what is asked of torch is faked, nothing of ours."""

import pytest
import torch
from torch import nn

from app import machine
from training.errors import TrainingError
from training.learning import device
from training.models import registry


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_before_mps_before_cpu(
    cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device.choose("auto") == chosen
    assert device.choose("cpu") == "cpu"


def test_what_is_named_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="no MPS device") as refusal:
        device.choose("mps")
    assert "cuda" in str(refusal.value)
    assert refusal.value.hint.startswith("--device cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.choose("mps") == "mps"


def test_on_mps_nothing_is_done_that_it_is_known_to_get_wrong() -> None:
    """bfloat16 before macOS 14, channels-last in batch norm's backward, copies that nobody waits for."""
    assert device.precision("mps", nn.Conv2d(3, 8, 3)) == "float32"
    assert device.memory_format("mps") is torch.contiguous_format
    assert device.memory_format("cpu") is torch.channels_last
    assert device.EVALUATED_BYTES.keys() == set(device.NAMES) - {"auto"}


def test_on_a_cpu_an_image_is_not_copied() -> None:
    x = torch.rand(2, 5, 5, 3).permute(0, 3, 1, 2)
    assert device.laid_out(x).data_ptr() == x.data_ptr()
    assert device.moved(x, torch.device("cpu")).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("model", "size", "chosen"),
    [
        ("residual-cnn", 32, "bfloat16"),  # 1.8 times as fast as in float32
        ("torchvision/resnext50_32x4d", 64, "bfloat16"),  # groups of four channels: 1.3 times
        ("depthwise-cnn", 32, "float32"),  # it would be 0.9 times
        ("timm/tf_efficientnet_lite0", 64, "float32"),  # 0.6 times
    ],
)
def test_a_cpu_with_bfloat16_products_uses_them_but_not_for_depthwise_convolutions(
    model: str, size: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = registry.build(model, 3, 2, size)
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda: True)
    assert device.precision("cpu", network) == chosen
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda: False)
    assert device.precision("cpu", network) == "float32"
