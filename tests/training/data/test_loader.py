"""What an epoch shows: order, class balance, mixing, and targets that say what the pixels are."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tests.training.data.augmented import EVERYTHING
from training.data.dataset import Sample
from training.data.loader import batches, cutmix, mix, mixup, smooth
from training.data.pixels import Pixels
from training.recipes import recipe
from training.recipes.recipe import Recipe

PLAIN: dict[str, object] = {"crop_padding": 0, "label_smoothing": 0.0, "batch_size": 8}
MIXED: dict[str, object] = {**EVERYTHING, "mixup": 0.2, "cutmix": 1.0, "balance": "sampling"}


def chosen(**keys: object) -> Recipe:
    return recipe.load("digits").model_copy(update={**PLAIN, **keys})


def pixels(labels: NDArray[np.int64]) -> Pixels:
    """Image i is all `i % 256` with its label as the first column."""
    n = len(labels)
    array = np.broadcast_to((np.arange(n) % 256).astype(np.uint8)[:, None, None, None], (n, 6, 6, 3)).copy()
    array[:, :, 0] = labels[:, None, None]
    samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
    return Pixels(samples, ("",) * n, labels, (), (6, 6), array.__getitem__)


def epoch(data: Pixels, epoch: int = 1, ahead: bool = False, **keys: Any) -> tuple[Tensor, Tensor]:
    """All of an epoch's images and targets."""
    subject = chosen(**keys)
    drawn = list(batches(data, subject, epoch, len(data) // subject.batch_size, ahead=ahead))
    return torch.cat([x for x, _ in drawn]), torch.cat([targets for _, targets in drawn])


SKEWED = np.repeat([0, 1, 2], [160, 60, 20])


def test_without_balance_each_image_comes_once_with_its_label() -> None:
    x, targets = epoch(pixels(SKEWED))
    assert sorted(x[:, 0, 1, 0].tolist()) == list(range(240))
    assert torch.equal(targets, F.one_hot(x[:, 0, 0, 0].long(), 3).float())


def test_sampling_shows_every_class_equally_often_and_every_image_of_a_class() -> None:
    shown = torch.cat([epoch(pixels(SKEWED), number, balance="sampling")[0] for number in range(1, 21)])
    assert len(shown) == 20 * 240, "an epoch stays as long as it was"
    counts = torch.bincount(shown[:, 0, 0, 0].long())
    assert counts.numpy() == pytest.approx(np.full(3, 1600), rel=0.07)
    of_the_rare = torch.bincount(shown[:, 0, 1, 0].long())[220:]
    assert of_the_rare.numpy() == pytest.approx(np.full(20, 80), rel=0.4)


def test_loss_weights_are_scikit_learns_balanced_ones_with_mean_1() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    x, targets = epoch(pixels(SKEWED), balance="loss")
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=SKEWED)
    for label in range(3):
        rows = targets[x[:, 0, 0, 0] == label]
        assert torch.allclose(rows, F.one_hot(torch.tensor(label), 3) * torch.tensor(wanted[label]).float())
    assert targets.sum(dim=1).mean() == pytest.approx(1, abs=1e-5)


def test_smoothed_targets_give_torchs_smoothed_loss() -> None:
    logits, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 5
    found = F.cross_entropy(logits, smooth(F.one_hot(labels, 5).float(), 0.2))
    assert found == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.2).item(), abs=1e-6)


def test_with_class_weights_each_images_smoothed_loss_is_weighed_as_a_whole() -> None:
    logits, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 5
    weights = torch.tensor([0.2, 0.5, 1.0, 3.0, 6.0])
    found = F.cross_entropy(logits, smooth(F.one_hot(labels, 5) * weights, 0.2))
    each = F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
    assert found == pytest.approx((each * weights[labels]).mean().item(), abs=1e-6)


def test_a_mixed_loss_is_the_mix_of_both_weighted_losses() -> None:
    logits, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 5
    weights = torch.tensor([0.2, 0.5, 1.0, 3.0, 6.0])
    _, targets = mixup(torch.zeros(20, 2, 2, 3), F.one_hot(labels, 5) * weights, 0.7, np.random.default_rng(0))
    each = [
        F.cross_entropy(logits, y, label_smoothing=0.1, reduction="none") * weights[y] for y in (labels, before(labels))
    ]
    found = F.cross_entropy(logits, smooth(targets, 0.1))
    assert found == pytest.approx((0.7 * each[0] + 0.3 * each[1]).mean().item(), abs=1e-6)


def before(x: Tensor) -> Tensor:
    """Each row's partner."""
    return torch.cat([x[-1:], x[:-1]])


def one_colour_each(n: int = 8, height: int = 10, width: int = 14) -> tuple[Tensor, Tensor]:
    """Image i has 255 in channel i % 3 only, which is its class too."""
    targets = F.one_hot(torch.arange(n) % 3, 3).float()
    return (targets * 255).view(n, 1, 1, 3).expand(n, height, width, 3).contiguous(), targets


@pytest.mark.parametrize("method", [mixup, cutmix])
@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 0.9, 1.0])
def test_the_targets_are_the_pixels_shares(method: Any, share: float) -> None:
    x, targets = one_colour_each()
    random = np.random.default_rng(0)
    for _ in range(20):
        mixed, soft = method(x, targets, share, random)
        assert torch.allclose(mixed.mean(dim=(1, 2)) / 255, soft, atol=1e-6)
        assert torch.equal(x, one_colour_each()[0]), "the batch itself is not changed"


def test_mixup_gives_the_first_its_share_and_the_rest_to_the_one_before() -> None:
    x = torch.rand(6, 4, 4, 3) * 255
    mixed, _ = mixup(x, torch.zeros(6, 2), 0.8, np.random.default_rng(0))
    assert torch.allclose(mixed, 0.8 * x + 0.2 * before(x), atol=1e-3)


def test_cutmix_pastes_one_box_of_the_shape_of_the_image() -> None:
    x, targets = one_colour_each(height=40, width=60)
    shares, places = [], torch.zeros(40, 60)
    random = np.random.default_rng(0)
    for _ in range(300):
        mixed, soft = cutmix(x, targets, 0.75, random)
        pasted = (mixed != x).any(dim=3)
        assert (pasted == pasted[0]).all()
        assert torch.equal(mixed[pasted], before(x)[pasted])
        rows, columns = pasted[0].any(dim=1), pasted[0].any(dim=0)
        assert torch.equal(pasted[0], rows[:, None] & columns[None])
        assert rows.sum() <= 21
        assert columns.sum() <= 31
        shares.append(soft[0, 0].item())
        places += pasted[0]
    assert min(shares) == pytest.approx(0.75, abs=0.02), "whole boxes take a quarter, those at the border less"
    assert max(shares) > 0.9
    assert places.min() > 0


@pytest.mark.parametrize(("keys", "expected"), [({"mixup": 1.0}, {"mixup"}), ({"cutmix": 1.0}, {"cutmix"})])
def test_one_key_alone_is_that_method(keys: dict[str, object], expected: set[str]) -> None:
    assert {kind for kind in kinds(**keys) if kind != "as it was"} == expected


def test_both_keys_draw_one_of_the_two_for_each_batch() -> None:
    found = kinds(mixup=1.0, cutmix=1.0)
    assert 60 < found.count("mixup") < 140
    assert 60 < found.count("cutmix") < 140


def kinds(**keys: object) -> list[str]:
    """Of 200 batches: whether colours blend (mixup), stand side by side (cutmix), or nothing happened."""
    x, targets = one_colour_each()
    random, found = np.random.default_rng(0), []
    for _ in range(200):
        mixed, _ = mix(x, targets, chosen(**keys), random)
        blended = bool(((mixed != 0) & (mixed != 255)).any())
        found.append("mixup" if blended else "as it was" if torch.equal(mixed, x) else "cutmix")
    return found


def test_alpha_is_that_of_the_beta_distribution() -> None:
    """Beta(a, a) has the variance 1 / (4 (2 a + 1))."""
    x, targets = one_colour_each()
    random = np.random.default_rng(0)
    shares = [mix(x, targets, chosen(mixup=0.4), random)[1][0, 0].item() for _ in range(3000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.05)


def test_an_epoch_with_everything_on_follows_from_seed_and_number_alone() -> None:
    data = pixels(SKEWED)
    first, again = epoch(data, 1, **MIXED), epoch(data, 1, **MIXED)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for other in (epoch(data, 2, **MIXED), epoch(data, 1, seed=1, **MIXED)):
        assert not torch.equal(first[0], other[0])


def test_preparing_draws_nothing_from_torchs_own_generator_which_is_dropouts() -> None:
    state = torch.get_rng_state()
    epoch(pixels(SKEWED), **MIXED)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_next_batch_is_prepared_while_one_is_used() -> None:
    data = pixels(SKEWED)
    asked, second = [], threading.Event()

    def take(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        asked.append(threading.get_ident())
        if len(asked) == 2:
            second.set()
        return data.take(indices)

    watched = Pixels(data.samples, data.sha256, data.labels, (), (6, 6), take)
    upcoming = batches(watched, chosen(), 1, 3, ahead=True)
    next(upcoming)
    assert second.wait(timeout=10), "nobody has asked for the second batch yet"
    assert threading.get_ident() not in asked
    assert len(list(upcoming)) == 2


def test_a_thread_that_prepares_ahead_prepares_the_same() -> None:
    keys: dict[str, Any] = {"flip": True, "crop_padding": 1, "cutmix": 1.0}
    here, ahead = (epoch(pixels(SKEWED), 3, each, **keys) for each in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(here, ahead, strict=True))
