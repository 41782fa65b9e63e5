"""TrivialAugment against torchvision's own, image by image."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import TrivialAugmentWide

from training.data.trivial_augment import trivial_augment
from training.variants.golden import draw


@pytest.mark.parametrize("height", [24, 40])
def test_an_image_gets_what_torchvisions_trivial_augment_gives_from_the_same_random_state(height: int) -> None:
    library = TrivialAugmentWide()
    image = torch.from_numpy(np.asarray(draw(24, height, np.random.default_rng(0))).copy())
    given = set()
    for seed in range(300):
        torch.manual_seed(seed)
        wanted = library(image.permute(2, 0, 1)).permute(1, 2, 0)
        found = trivial_augment(image[None], torch.Generator().manual_seed(seed))[0]
        assert torch.equal(found, wanted), f"seed {seed}"
        given.add(found.numpy().tobytes())
    assert len(given) > 150


def test_each_image_of_a_batch_gets_its_own_operation_and_keeps_its_place() -> None:
    """Images of one brightness each stay in order: most operations keep a flat image's middle near its value."""
    images = (torch.arange(64) * 4).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 8, 8, 3).contiguous()
    middle = trivial_augment(images, torch.Generator().manual_seed(0))[:, 4, 4, 0]
    unchanged = (middle == images[:, 4, 4, 0]).float().mean()
    assert 0.4 < unchanged < 0.95
    assert torch.equal(images[:, 0, 0, 0], (torch.arange(64) * 4).to(torch.uint8)), "the batch itself is not changed"
