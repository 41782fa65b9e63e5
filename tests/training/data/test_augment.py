"""Augmentation of batches, against a plain per-image reference: crops, rotations, holes, and all at once."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from tests.training.data.augmented import EVERYTHING, batch, marker, planes, run
from training.data.augment import resample, sharpen


def crops(image: NDArray[np.uint8], padding: int, flip: bool) -> dict[tuple[int, int, bool], NDArray[np.uint8]]:
    """Every image that a random crop (and flip) may give: (top, left, mirrored) -> uint8[H, W, 3]."""
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            found[top, left, False] = crop
            if flip:
                found[top, left, True] = crop[:, ::-1]
    return found


def choices(pixels: Tensor, augmented: Tensor, padding: int, flip: bool) -> list[tuple[int, int, bool]]:
    """Which crop each image got; fails where it is none."""
    answer = []
    for before, after in zip(pixels.numpy(), augmented.numpy(), strict=True):
        answer.append(next(key for key, crop in crops(before, padding, flip).items() if (crop == after).all()))
    return answer


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_every_image_is_a_crop_of_its_padded_or_mirrored_self(padding: int, flip: bool) -> None:
    pixels = batch(600)
    chosen = choices(pixels, run(pixels, crop_padding=padding, flip=flip), padding, flip)
    assert set(chosen) == set(crops(pixels[0].numpy(), padding, flip)), "over 600 images every crop occurs"


def test_half_of_the_images_are_mirrored() -> None:
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


def place(image: Tensor) -> tuple[float, float]:
    """Row and column of the brightness' centre, float32[H, W, 3], in pixels from the upper left corner."""
    light = image.sum(dim=2)
    rows, columns = torch.arange(light.shape[0]) + 0.5, torch.arange(light.shape[1]) + 0.5
    return float((light.sum(1) @ rows) / light.sum()), float((light.sum(0) @ columns) / light.sum())


def test_a_turned_marker_lands_where_the_angle_says() -> None:
    """A quarter turn counter-clockwise takes what is right of the centre to above it, in a wide image too."""
    x = planes(marker(20, 30, row=9, column=19))
    whole = torch.tensor([[0.0], [0.0], [20.0], [30.0]])
    row, column = place(resample(x, whole, torch.tensor([90.0]), "zeros")[0].permute(1, 2, 0))
    assert (row, column) == pytest.approx((5, 15), abs=1e-3)


@pytest.mark.parametrize("degrees", [-30.0, 10.0, 75.0])
def test_a_rotation_is_torchvisions(degrees: float) -> None:
    x = planes(batch(3, 12, 12))
    whole = torch.tensor([0.0, 0.0, 12.0, 12.0]).view(4, 1).expand(4, 3)
    found = resample(x, whole, torch.full((3,), degrees), "zeros")
    wanted = V.rotate(x, degrees, V.InterpolationMode.BILINEAR)
    assert torch.allclose(found[..., 3:9, 3:9], wanted[..., 3:9, 3:9], atol=0.02)  # its border mixes with the fill


def test_a_crop_grown_to_the_whole_is_torchvisions() -> None:
    x = planes(batch(2, 16, 12))
    boxes = torch.tensor([[4.0, 0.0], [3.0, 0.0], [8.0, 16.0], [6.0, 12.0]])
    found = resample(x, boxes, torch.zeros(2), "border")
    crop = V.resized_crop(x[:1], 4, 3, 8, 6, [16, 12], antialias=False)
    # where the crop ends torchvision repeats its edge, and we look at the pixel beyond
    assert torch.allclose(found[0, :, 1:-1, 1:-1], crop[0, :, 1:-1, 1:-1], atol=0.02)
    assert torch.allclose(found[1], x[1], atol=0.02), "the whole image stays as it is"


def test_rotation_stays_within_its_degrees_and_uses_them() -> None:
    """The angle that a marker's place tells, over 300 images."""
    turned = run(marker(41, 41, row=20, column=35, n=300), rotation=25)
    places = np.array([place(image) for image in turned]) - 20.5
    start = np.array(place(marker(41, 41, row=20, column=35)[0].float())) - 20.5
    angles = np.degrees(np.arctan2(-places[:, 0], places[:, 1]) - np.arctan2(-start[0], start[1]))
    assert np.abs(angles).max() < 25.5
    assert angles.min() < -22
    assert angles.max() > 22


def test_a_crop_may_be_larger_than_the_image_whose_surroundings_are_its_mirror_image() -> None:
    pixels = marker(40, 40, row=19, column=19, n=500)
    cropped = run(pixels, resized_crop=0.9, resized_crop_to=1.5)
    lit = (cropped[..., 0] / 250).sum(dim=(1, 2)).numpy()  # the 4 pixels of the marker, by how much they shrank
    assert 2.4 < lit.min() < 3
    assert 4 < lit.max() < 4.8
    near = run(marker(40, 40, row=19, column=3, n=500), resized_crop=0.9, resized_crop_to=1.5)
    assert (near[..., 0] / 250).sum(dim=(1, 2)).max() > 5, "what lies near the edge is seen twice"


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_sharpness_is_pillows(factor: float) -> None:
    image = batch(1, 12, 15)
    wanted = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image[0].numpy())).enhance(factor), np.float32)
    found = sharpen(planes(image), torch.tensor([factor]))[0].permute(1, 2, 0)
    assert np.abs(found.numpy() - wanted).max() < 2


def test_each_image_has_a_sharpness_of_its_own() -> None:
    x = run(marker(9, 9, row=4, column=4, n=200), sharpness=0.6)
    assert x[:, 4, 4, 0].std() > 10


def test_a_resized_crop_keeps_at_least_its_share_of_the_area() -> None:
    """Rows and columns tell of where they are; how far those of the result lie apart is the crop's size."""
    ramp = torch.arange(0, 240, 6, dtype=torch.uint8)
    pixels = torch.stack([ramp[:, None].expand(40, 40), ramp[None].expand(40, 40), torch.zeros(40, 40)], dim=-1)
    cropped = run(pixels.to(torch.uint8).expand(500, -1, -1, -1), resized_crop=0.25)
    tall = ((cropped[:, 30, 20, 0] - cropped[:, 10, 20, 0]) / 6 / 20).numpy()
    wide = ((cropped[:, 20, 30, 1] - cropped[:, 20, 10, 1]) / 6 / 20).numpy()
    assert 0.24 < (tall * wide).min() < 0.3
    assert 0.95 < (tall * wide).max() < 1.02
    assert max(tall.max(), wide.max()) < 1.01, "and lies within the image"
    aspects = (wide / tall)[tall * wide < 0.7]  # larger ones fit only if nearly square
    assert 0.74 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < 1.35
    assert len(np.unique(cropped[:, 20, 20, 0].numpy())) > 100, "crops lie everywhere"


def changed(pixels: Tensor, augmented: Tensor) -> Tensor:
    """bool[N, H, W]: where any channel differs."""
    return (pixels.float() != augmented).any(dim=3)


def is_box(mask: Tensor) -> bool:
    """Whether bool[H, W] is one filled rectangle."""
    rows, columns = mask.any(dim=1), mask.any(dim=0)
    return bool(torch.equal(mask, rows[:, None] & columns[None]) and all(map(connected, (rows, columns))))


def connected(line: Tensor) -> bool:
    return int(line.sum()) == int(line.nonzero().max() - line.nonzero().min()) + 1


def test_cutout_takes_one_square_that_the_border_may_cut() -> None:
    pixels = batch(400, 20, 20, low=250)
    masks = changed(pixels, run(pixels, cutout=8))
    sizes = {(int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())) for mask in masks}
    assert all(is_box(mask) for mask in masks)
    assert max(sizes) == (8, 8)
    assert min(min(size) for size in sizes) == 4, "the centre is always in the image"
    assert masks.any(dim=0).all(), "every pixel may go"


def test_cutout_leaves_the_batchs_mean_colour() -> None:
    pixels = batch(10, 20, 20)
    after = run(pixels, cutout=5)
    assert torch.allclose(after[changed(pixels, after)], pixels.float().mean(dim=(0, 1, 2)), atol=1e-3)


def test_erasing_takes_a_rectangle_of_some_images_for_noise() -> None:
    pixels = torch.full((2000, 24, 24, 3), 77, dtype=torch.uint8)
    after = run(pixels, erasing=0.3)
    masks = changed(pixels, after)
    hit = masks.flatten(1).any(dim=1)
    assert hit.float().mean() == pytest.approx(0.3, abs=0.04)
    assert all(is_box(mask) for mask in masks[hit])
    areas = masks[hit].float().mean(dim=(1, 2))
    assert 0.01 < areas.min() < 0.03
    assert 0.28 < areas.max() < 0.37
    assert after[masks].std() == pytest.approx(255 / 12**0.5, rel=0.02), "uniform noise, not one colour"


def test_everything_at_once_follows_from_its_generator_and_leaves_torchs_own_alone() -> None:
    before = torch.get_rng_state()
    first, again = run(batch(), seed=5, **EVERYTHING), run(batch(), seed=5, **EVERYTHING)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == batch().shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 255.01


@pytest.mark.parametrize("key", EVERYTHING)
def test_every_key_of_augmentation_changes_images_by_itself(key: str) -> None:
    assert not torch.equal(run(batch(), **{key: EVERYTHING[key]}), batch().float())
