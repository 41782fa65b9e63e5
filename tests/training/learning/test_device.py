"""Where a network learns. No machine here has an Apple GPU: what is asked of torch is faked, nothing of ours."""

import pytest
import torch

from training.errors import TrainingError
from training.learning import device


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
    assert device.precision("mps") == "float32"
    assert device.memory_format("mps") is torch.contiguous_format
    assert device.memory_format("cpu") is torch.channels_last
    assert device.EVALUATED_BYTES.keys() == set(device.NAMES) - {"auto"}


def test_on_a_cpu_an_image_is_not_copied() -> None:
    x = torch.rand(2, 5, 5, 3).permute(0, 3, 1, 2)
    assert device.laid_out(x).data_ptr() == x.data_ptr()
    assert device.moved(x, torch.device("cpu")).data_ptr() == x.data_ptr()
