"""Augmentation of batches, against a plain per-image reference."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training import recipe
from training.augment import augment

LUMA = torch.tensor([0.299, 0.587, 0.114])


def batch(n: int = 32, height: int = 6, width: int = 5, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(low, high, (n, height, width, 3), generator=generator, dtype=torch.uint8)


def run(pixels: Tensor, seed: int = 0, **keys: object) -> Tensor:
    chosen = recipe.load("digits").model_copy(update={"crop_padding": 0, **keys})
    return augment(pixels, chosen, torch.Generator().manual_seed(seed))


def crops(picture: NDArray[np.uint8], padding: int, flip: bool) -> dict[tuple[int, int, bool], NDArray[np.uint8]]:
    """Every picture that a random crop (and flip) may give: (top, left, mirrored) -> uint8[H, W, 3]."""
    height, width, _ = picture.shape
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)))
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            found[top, left, False] = crop
            if flip:
                found[top, left, True] = crop[:, ::-1]
    return found


def choices(pixels: Tensor, augmented: Tensor, padding: int, flip: bool) -> list[tuple[int, int, bool]]:
    """Which crop each picture got; fails where it is none."""
    answer = []
    for before, after in zip(pixels.numpy(), augmented.numpy(), strict=True):
        answer.append(next(key for key, crop in crops(before, padding, flip).items() if (crop == after).all()))
    return answer


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_every_picture_is_a_crop_of_its_padded_or_mirrored_self(padding: int, flip: bool) -> None:
    pixels = batch(600)
    chosen = choices(pixels, run(pixels, crop_padding=padding, flip=flip), padding, flip)
    assert set(chosen) == set(crops(pixels[0].numpy(), padding, flip)), "over 600 pictures every crop occurs"


def test_half_of_the_pictures_are_mirrored() -> None:
    pixels = batch(2000)
    mirrored = [flipped for _, _, flipped in choices(pixels, run(pixels, flip=True), 0, True)]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.05)


def test_without_augmentation_pixels_stay_as_they_are() -> None:
    pixels = batch()
    assert torch.equal(run(pixels), pixels.float())


@pytest.mark.parametrize("keys", [{}, {"crop_padding": 2, "flip": True}, {"jitter": (0.9, 0.9, 0.9)}])
def test_the_result_is_float_of_the_same_shape_within_0_and_255(keys: dict[str, object]) -> None:
    pixels = batch()
    augmented = run(pixels, **keys)
    assert augmented.dtype == torch.float32
    assert augmented.shape == pixels.shape
    assert augmented.min() >= 0
    assert augmented.max() <= 255


def test_the_generators_seed_decides_everything() -> None:
    keys = {"crop_padding": 2, "flip": True, "jitter": (0.2, 0.2, 0.2)}
    assert torch.equal(run(batch(), seed=3, **keys), run(batch(), seed=3, **keys))
    assert not torch.equal(run(batch(), seed=3, **keys), run(batch(), seed=4, **keys))


def test_the_given_batch_is_not_changed() -> None:
    pixels = batch()
    run(pixels, crop_padding=2, flip=True, jitter=(0.5, 0.5, 0.5))
    assert torch.equal(pixels, batch())


def factors(change: Tensor, original: Tensor) -> Tensor:
    """The one factor per picture by which `change` is `original`; fails where it is not one factor."""
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


def test_brightness_scales_each_picture_by_one_factor() -> None:
    pixels = batch(200, low=20, high=180)
    assert within(factors(run(pixels, jitter=(0.3, 0, 0)), pixels.float()), 0.3)


def test_contrast_scales_the_distance_to_the_pictures_mean_luma() -> None:
    pixels = batch(200, low=90, high=160)
    mean = (pixels.float() @ LUMA).mean(dim=(1, 2))[:, None, None, None]
    assert within(factors(run(pixels, jitter=(0, 0.4, 0)) - mean, pixels.float() - mean), 0.4)


def test_saturation_scales_the_distance_to_each_pixels_grey() -> None:
    pixels = batch(200, low=80, high=170)
    grey = (pixels.float() @ LUMA)[..., None]
    assert within(factors(run(pixels, jitter=(0, 0, 0.5)) - grey, pixels.float() - grey), 0.5)


def test_saturation_leaves_grey_pictures_alone() -> None:
    grey = batch()[..., :1].expand(-1, -1, -1, 3).contiguous()
    assert torch.allclose(run(grey, jitter=(0, 0, 0.9)), grey.float(), atol=1e-3)


def test_each_picture_gets_its_own_factors() -> None:
    same = batch(1).expand(50, -1, -1, -1).contiguous()
    means = run(same, jitter=(0.3, 0, 0)).mean(dim=(1, 2, 3))
    assert len(means.unique()) > 40
