"""Augmentation of batches: brightness, contrast, saturation, hue and noise."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from tests.training.data.augmented import batch, marker, planes, run
from training.data.augment import adjust, shift_hue

LUMA = torch.tensor([0.299, 0.587, 0.114])


def factors(change: Tensor, original: Tensor) -> Tensor:
    """The one factor per image by which `change` is `original`; fails where it is not one factor."""
    usable = original.abs() > 5
    low, high = [], []
    for part, whole, where in zip(change, original, usable, strict=True):
        ratio = part[where] / whole[where]
        low.append(ratio.min())
        high.append(ratio.max())
    assert torch.allclose(torch.stack(low), torch.stack(high), atol=1e-3)
    return torch.stack(low)


def within(found: Tensor, strength: float) -> bool:
    """Factors lie in 1 - s .. 1 + s and use most of that range."""
    used = (found.max() - found.min()) / (2 * strength)
    return bool(found.min() >= 1 - strength - 1e-3 and found.max() <= 1 + strength + 1e-3 and used > 0.8)


def test_brightness_scales_each_image_by_one_factor() -> None:
    pixels = batch(200, low=20, high=180)
    assert within(factors(run(pixels, jitter=(0.3, 0, 0)), pixels.float()), 0.3)


def test_contrast_scales_the_distance_to_the_images_mean_luma() -> None:
    pixels = batch(200, low=90, high=160)
    mean = (pixels.float() @ LUMA).mean(dim=(1, 2))[:, None, None, None]
    assert within(factors(run(pixels, jitter=(0, 0.4, 0)) - mean, pixels.float() - mean), 0.4)


def test_saturation_scales_the_distance_to_each_pixels_grey() -> None:
    pixels = batch(200, low=80, high=170)
    grey = (pixels.float() @ LUMA)[..., None]
    assert within(factors(run(pixels, jitter=(0, 0, 0.5)) - grey, pixels.float() - grey), 0.5)


def test_saturation_leaves_grey_images_alone() -> None:
    grey = batch()[..., :1].expand(-1, -1, -1, 3).contiguous()
    assert torch.allclose(run(grey, jitter=(0, 0, 0.9)), grey.float(), atol=1e-3)


def test_each_image_gets_its_own_factors() -> None:
    same = batch(1).expand(50, -1, -1, -1).contiguous()
    means = run(same, jitter=(0.3, 0, 0)).mean(dim=(1, 2, 3))
    assert len(means.unique()) > 40


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.02, 0.3])
def test_turning_hues_is_torchvisions_adjust_hue(turn: float) -> None:
    x = planes(torch.cat([batch(4, 8, 8), marker(8, 8, 2, 2), batch(1, 8, 8)[..., :1].expand(-1, -1, -1, 3)]))
    found = shift_hue(x, torch.full((len(x),), turn))
    wanted = V.adjust_hue(x / 255, turn) * 255
    assert torch.allclose(found, wanted, atol=0.02)


def test_hues_are_turned_by_at_most_the_recipes_share_of_the_circle() -> None:
    """Red, whose hue is 0: a turn of 0.1 gives it green up to 0.6 of full, or blue."""
    red = torch.zeros((500, 2, 2, 3), dtype=torch.uint8)
    red[..., 0] = 200
    turned = run(red, hue=0.1)
    assert torch.allclose(turned[..., 0], torch.tensor(200.0), atol=1e-3)
    for channel in (1, 2):
        assert 100 < turned[..., channel].max() <= 0.6 * 200 + 0.01


def test_brightness_contrast_and_saturation_together_are_torchvisions() -> None:
    x = planes(batch(1, low=40, high=200))
    found = adjust(x, *(torch.tensor(factor).view(1, 1, 1, 1) for factor in (1.2, 0.7, 1.4)))
    wanted = V.adjust_saturation(V.adjust_contrast(V.adjust_brightness(x / 255, 1.2), 0.7), 1.4) * 255
    assert torch.allclose(found, wanted, atol=0.2)  # torchvision's luma weights sum to 0.9999


def test_noise_has_the_recipes_standard_deviation() -> None:
    grey = torch.full((50, 16, 16, 3), 127, dtype=torch.uint8)
    added = run(grey, noise=0.05) - 127
    assert added.std() == pytest.approx(0.05 * 255, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=0.2)
    assert run(grey, noise=0.9).min() == 0
    assert run(grey, noise=0.9).max() == 255
