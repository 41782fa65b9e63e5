"""The training loop on a network small enough to check by hand."""

import copy
import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from app import machine
from tests.images import drawing, encode
from training.data.dataset import Sample
from training.data.pixels import Pixels
from training.errors import Stopped
from training.learning.epochs import logits_of
from training.learning.learner import Learner, average
from training.models.heads import Network
from training.models.servable import Normalise
from training.recipes import recipe

STILL = {  # every key that would hide the one under test
    "channels": 3,
    "crop_padding": 0,
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "momentum": 0.0,
    "precision": "float32",
    "batch_size": 8,
    "epochs": 4,
    "schedule": "cosine",
}
CPU = torch.device("cpu")


def pixels(n: int = 32, take: Callable[[Any], Any] | None = None) -> Pixels:
    array = np.random.default_rng(0).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 3
    samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
    return Pixels(samples, ("",) * n, labels, (), (6, 6), take or array.__getitem__)


def network(dropout: float = 0.0) -> Network:
    torch.manual_seed(1)
    return Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(dropout)), 64, 3)


def learner(net: Network | None = None, images: int = 32, **keys: object) -> Learner:
    chosen = recipe.load("digits").model_copy(update={**STILL, **keys})
    return Learner(net or network(), Normalise((0.5,) * 3, (0.3,) * 3), chosen, images, "cpu")


def tensors(module: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in module.state_dict().values()]


def vector(module: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([each.detach().clone().flatten() for each in module.parameters()])


def train(subject: Learner, epochs: int = 1, data: Pixels | None = None) -> list[Any]:
    """What `watch` saw: (learning rate, weights) after every step."""
    seen: list[Any] = []

    def watch(_done: int) -> None:
        seen.append((subject.optimizer.param_groups[0]["lr"], tensors(subject.network)))

    for number in range(1, epochs + 1):
        subject.epoch(data or pixels(), number, watch)
    return seen


@pytest.mark.parametrize(
    ("name", "expected"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_recipe_names_the_optimiser_and_weight_decay_spares_vectors(name: str, expected: type) -> None:
    optimizer = learner(optimizer=name, weight_decay=0.01, lr=0.02).optimizer
    assert type(optimizer) is expected
    found = [(each.ndim, group["weight_decay"]) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(found) == [(1, 0.0)] * 4 + [(2, 0.01), (4, 0.01)]


@pytest.mark.parametrize("nesterov", [True, False])
def test_nesterov_is_a_switch(nesterov: bool) -> None:
    group = learner(optimizer="sgd", momentum=0.9, nesterov=nesterov).optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, nesterov)


def test_nesterov_without_momentum_is_plain_sgd() -> None:
    assert learner(optimizer="sgd", momentum=0.0, nesterov=True).optimizer.param_groups[0]["nesterov"] is False


def test_onecycle_climbs_to_the_rate_in_the_first_third_and_ends_near_zero() -> None:
    rates = [lr for lr, _ in train(learner(schedule="onecycle", lr=0.1, epochs=10), epochs=10)]
    peak = int(np.argmax(rates))
    assert max(rates) == pytest.approx(0.1, rel=0.02)
    assert 0.2 < peak / len(rates) < 0.4
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert rates[-1] < 1e-3 * 0.1


def test_cosine_falls_from_the_rate_to_zero() -> None:
    subject = learner(schedule="cosine", lr=0.1, epochs=4)
    first = subject.optimizer.param_groups[0]["lr"]
    rates = [first, *(lr for lr, _ in train(subject, epochs=4))]
    expected = [0.05 * (1 + np.cos(np.pi * step / 16)) for step in range(17)]
    assert rates == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    data = pixels(8)
    subject = learner(images=8, label_smoothing=smoothing)
    reference = copy.deepcopy(subject.network).train()
    x = subject.normalise(torch.from_numpy(data.take(np.arange(8))))
    logs = F.log_softmax(reference(x), dim=1)
    wanted = -logs[torch.arange(8), torch.from_numpy(data.labels)].mean()
    expected = (1 - smoothing) * wanted - smoothing * logs.mean()
    assert subject.epoch(data, 1, lambda _: None).loss == pytest.approx(expected.item(), abs=1e-5)


def movement(clip_norm: float) -> Tensor:
    """How far one SGD step at rate 1 moves the weights: minus the (clipped) gradient."""
    subject = learner(images=8, optimizer="sgd", lr=1.0, clip_norm=clip_norm)
    before = vector(subject.network)
    subject.epoch(pixels(8), 1, lambda _: None)
    return vector(subject.network) - before


def test_clipping_bounds_the_norm_of_the_gradient_and_keeps_its_direction() -> None:
    free = movement(clip_norm=0.0)
    clipped = movement(clip_norm=0.01)
    assert free.norm() > 0.1
    assert clipped.norm() == pytest.approx(0.01, rel=1e-2)
    assert F.cosine_similarity(free, clipped, dim=0) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(movement(clip_norm=100.0), free, atol=1e-7), "a small gradient is left alone"


def test_averaged_weights_follow_the_formula() -> None:
    subject = learner(ema_decay=0.3, optimizer="sgd", lr=0.1)
    expected = tensors(subject.network)
    for step, (_, weights) in enumerate(train(subject), start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * new if new.is_floating_point() else new
            for old, new in zip(expected, weights, strict=True)
        ]
    assert subject.averaged is not None
    for found, wanted in zip(tensors(subject.averaged), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_average_mixes_numbers_and_copies_counters() -> None:
    old, new = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(old.running_mean, 1.0)
    nn.init.constant_(new.running_mean, 2.0)
    new.num_batches_tracked.fill_(7)
    average(old, new, decay=0.75)
    assert old.running_mean.tolist() == [1.25, 1.25]
    assert old.num_batches_tracked == 7
    assert new.running_mean.tolist() == [2.0, 2.0]


def test_the_averaged_network_is_the_one_that_counts() -> None:
    averaging, plain = learner(ema_decay=0.9), learner(ema_decay=0.0)
    assert averaging.validated is averaging.averaged
    assert plain.validated is plain.network


def test_an_epoch_follows_from_seed_and_number_alone() -> None:
    first, again, other_epoch = (learner(network(dropout=0.3)) for _ in range(3))
    other_seed = learner(network(dropout=0.3), seed=1)
    first.epoch(pixels(), 1, lambda _: None)
    torch.rand(3)  # whatever happens to the global generator in between
    again.epoch(pixels(), 1, lambda _: None)
    other_epoch.epoch(pixels(), 2, lambda _: None)
    other_seed.epoch(pixels(), 1, lambda _: None)
    assert torch.equal(vector(first.network), vector(again.network))
    assert not torch.equal(vector(first.network), vector(other_epoch.network))
    assert not torch.equal(vector(first.network), vector(other_seed.network))


def test_an_epoch_shows_each_image_at_most_once_and_drops_a_partial_batch() -> None:
    array = np.zeros((30, 6, 6, 3), np.uint8)
    shown: list[int] = []

    def take(indices: Any) -> Any:
        shown.extend(indices)
        return array[indices]

    done: list[int] = []
    learner(images=30).epoch(pixels(30, take), 1, done.append)
    assert done == [8, 16, 24]
    assert len(shown) == len(set(shown)) == 24


def test_fewer_images_than_a_batch_still_make_a_step() -> None:
    done: list[int] = []
    learner(images=5).epoch(pixels(5), 1, done.append)
    assert done == [5]


def test_stopping_is_heard_after_the_current_batch() -> None:
    done: list[int] = []
    with pytest.raises(Stopped):
        learner().epoch(pixels(), 1, done.append, stopping=lambda: len(done) == 2)
    assert done == [8, 16]


@pytest.mark.parametrize("keys", [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.9, "ema_decay": 0.9}])
def test_a_restored_learner_goes_on_bit_by_bit(keys: dict[str, object]) -> None:
    whole = learner(lr=0.01, schedule="onecycle", **keys)
    train(whole, epochs=2)
    half = learner(lr=0.01, schedule="onecycle", **keys)
    train(half, epochs=1)
    state = copy.deepcopy(half.state_dict())
    resumed = learner(lr=0.01, schedule="onecycle", **keys)
    resumed.load_state_dict(state)
    resumed.epoch(pixels(), 2, lambda _: None)
    pairs = zip(tensors(resumed.validated), tensors(whole.validated), strict=True)
    assert all(torch.equal(found, wanted) for found, wanted in pairs)


def test_an_epoch_says_the_rate_that_it_began_with() -> None:
    stats = learner(lr=0.05).epoch(pixels(), 1, lambda _: None)
    assert stats.lr == 0.05


def test_waiting_for_data_is_seen() -> None:
    """A reader that needs nearly all of the time must show as such."""
    array = np.zeros((32, 6, 6, 3), np.uint8)

    def slow(indices: Any) -> Any:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 600_000)
        return array[indices]

    assert learner().epoch(pixels(32, slow), 1, lambda _: None).waiting > 0.5


def test_training_learns() -> None:
    subject = learner(optimizer="adam", lr=0.01, epochs=20)
    losses = [subject.epoch(pixels(), number, lambda _: None).loss for number in range(1, 21)]
    assert losses[-1] < losses[0] / 4


def test_logits_of_a_split_are_the_networks_in_evaluation_mode_and_in_order() -> None:
    net, normalise = network(), Normalise((0.5,) * 3, (0.3,) * 3)
    data = pixels(300)
    found = logits_of(net.train(), normalise, data, CPU)
    one_by_one = [net.eval()(normalise(torch.from_numpy(data.take(np.array([i]))))) for i in range(300)]
    assert torch.allclose(found, torch.cat(one_by_one), atol=1e-5)


def test_the_recipe_decides_the_precision_and_auto_asks_the_machine() -> None:
    assert learner(precision="bfloat16").precision == "bfloat16"
    assert learner(precision="float32").precision == "float32"
    assert learner(precision="auto").precision == ("bfloat16" if machine.multiplies_bfloat16() else "float32")


def test_images_per_second_counts_what_it_takes_to_read_a_batch() -> None:
    file, taken = encode(drawing(1500, 1500), "PNG"), []

    def take(places: NDArray[np.int64]) -> NDArray[np.uint8]:
        started = time.perf_counter()
        Image.open(io.BytesIO(file)).load()
        taken.append(time.perf_counter() - started)
        return np.zeros((len(places), 6, 6, 3), np.uint8)

    rate = learner(batch_size=8).images_per_second(pixels(take=take))
    assert len(taken) == 4
    assert 0 < rate < 8 / min(taken)
