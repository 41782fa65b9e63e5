"""What learns in which phase, at which rate, and what a frozen stage keeps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.training.learning.test_learner import STILL, pixels
from training.errors import TrainingError
from training.learning.learner import Learner
from training.models import freezing, registry
from training.models.heads import Network
from training.models.servable import Normalise
from training.recipes import recipe
from training.recipes.recipe import Phase
from training.recipes.spans import Span, spans


def network() -> Network:
    """Three stages (a norm belongs to the convolution before it) and a head."""
    torch.manual_seed(1)
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 8),
    )
    return Network(features, 8, 3)


def learner(**keys: object) -> Learner:
    chosen = recipe.load("digits").model_copy(update={**STILL, "lr": 0.1, **keys})
    return Learner(network(), Normalise((0.5,) * 3, (0.3,) * 3), chosen, 32, "cpu")


def changed(subject: Learner, epochs: range) -> set[str]:
    """The weights and statistics that the epochs moved, by their first two names: `features.3`, `head.weight`."""
    before = copy.deepcopy(subject.network.state_dict())
    for number in epochs:
        subject.epoch(pixels(), number, lambda _: None)
    after = subject.network.state_dict()
    return {".".join(name.split(".")[:2]) for name in after if not torch.equal(before[name], after[name])}


HEAD, LAST, ALL = {"head.weight", "head.bias"}, {"features.6"}, {f"features.{n}" for n in (0, 1, 3, 4, 6)}


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("residual-cnn", 4, ["ResidualBlock"]),
        ("plain-cnn", 4, ["Linear", "ReLU", "Dropout"]),
        ("torchvision/resnet18", 5, ["Sequential"]),
        ("torchvision/mobilenet_v3_small", 14, ["Linear", "Hardswish", "Dropout", "Identity"]),
        ("torchvision/vit_b_16", 13, ["EncoderBlock", "LayerNorm", "Sequential"]),
        ("torchvision/convnext_tiny", 8, ["Sequential"]),
    ],
)
def test_a_network_knows_its_stages(name: str, count: int, last: list[str]) -> None:
    with torch.device("meta"):
        found = freezing.stages(registry.build(name, 3, 10, 224 if "vision" in name else 32))
    assert len(found) == count
    assert [type(module).__name__ for module in found[-1]][: len(last)] == last


@pytest.mark.parametrize(("unfrozen", "learns"), [(0, HEAD), (1, HEAD | LAST), (None, HEAD | ALL)])
def test_only_what_is_unfrozen_moves_and_frozen_batch_norm_keeps_its_statistics(
    unfrozen: int | None, learns: set[str]
) -> None:
    assert changed(learner(unfrozen_stages=unfrozen), range(1, 2)) == learns


def test_frozen_statistics_of_a_batch_norm_that_learns() -> None:
    subject = learner(freeze_batch_norm=True)
    mean: Tensor = subject.network.features[1].running_mean.clone()
    assert changed(subject, range(1, 2)) == HEAD | ALL, "its weight and bias learn"
    assert torch.equal(subject.network.features[1].running_mean, mean)


def test_the_features_learn_at_their_share_of_the_heads_rate() -> None:
    subject = learner(backbone_lr_factor=0.01)
    rates = {id(p): group["lr"] for group in subject.optimizer.param_groups for p in group["params"]}
    assert all(rates[id(p)] == 0.1 for p in subject.network.head.parameters())
    assert all(rates[id(p)] == pytest.approx(0.001) for p in subject.network.features.parameters())


PROGRESSIVE = (
    Phase(share=1, lr=0.1, schedule="constant", unfrozen_stages=0),
    Phase(share=1, lr=0.1, schedule="constant", unfrozen_stages=1, backbone_lr_factor=0.1),
    Phase(share=2, lr=0.01),
)


def test_progressive_unfreezing_moves_the_head_then_the_last_stage_then_everything() -> None:
    subject = learner(phases=PROGRESSIVE, epochs=4)
    assert changed(subject, range(1, 2)) == HEAD
    assert changed(subject, range(2, 3)) == HEAD | LAST
    assert changed(subject, range(3, 4)) == HEAD | ALL
    assert subject.optimizer.param_groups[0]["lr"] == pytest.approx(0.005), "half way down the last phase's cosine"


def test_a_run_in_phases_resumes_bit_by_bit_from_every_epoch() -> None:
    whole = learner(phases=PROGRESSIVE, epochs=4, momentum=0.9)
    states = []
    for number in range(1, 5):
        whole.epoch(pixels(), number, lambda _: None)
        states.append(copy.deepcopy(whole.state_dict()))
    for done in (1, 2, 3):
        resumed = learner(phases=PROGRESSIVE, epochs=4, momentum=0.9)
        resumed.load_state_dict(copy.deepcopy(states[done - 1]))
        for number in range(done + 1, 5):
            resumed.epoch(pixels(), number, lambda _: None)
        final = resumed.network.state_dict()
        assert all(torch.equal(final[name], value) for name, value in states[-1]["network"].items())


@pytest.mark.parametrize(("epochs", "expected"), [(20, [5, 5, 10]), (4, [1, 1, 2]), (3, [1, 1, 1]), (5, [1, 1, 3])])
def test_every_epoch_is_in_one_phase(epochs: int, expected: list[int]) -> None:
    found = spans(recipe.load("digits").model_copy(update={"phases": PROGRESSIVE, "epochs": epochs}))
    assert [span.epochs for span in found] == expected
    assert [span.first for span in found] == [1 + sum(expected[:n]) for n in range(len(expected))]
    assert found[-1].last == epochs


def test_a_span_says_what_learns() -> None:
    said = [str(span) for span in spans(recipe.load("progressive-unfreezing"))]
    assert said == [
        "the head alone learns, at 1.0e-03",
        "the head learns at 1.0e-03, the last stage at 1.0e-04",
        "everything learns at 1.0e-05",
    ]


def test_more_stages_than_there_are_is_an_error() -> None:
    with pytest.raises(TrainingError, match="has 3 stages, not 4"):
        learner(unfrozen_stages=4)


def test_what_is_frozen_later_does_not_count_when_gradients_are_clipped() -> None:
    phases = (Phase(share=1, lr=0.1), Phase(share=1, lr=0.1, unfrozen_stages=0))
    subject = learner(phases=phases, epochs=2, clip_norm=1.0)
    changed(subject, range(1, 3))
    assert all(each.grad is None for each in subject.network.features.parameters())


@pytest.mark.parametrize(
    ("stages", "factor", "said"),
    [
        (1, 1, "the head and the last stage learn at 1.0e-03"),
        (2, 1, "the head and the last 2 stages learn at 1.0e-03"),
        (None, 1, "everything learns at 1.0e-03"),
        (None, 0.1, "the head learns at 1.0e-03, everything else at 1.0e-04"),
    ],
)
def test_a_span_names_the_head_among_what_learns(stages: int | None, factor: float, said: str) -> None:
    phase = Phase(share=1, lr=1e-3, unfrozen_stages=stages, backbone_lr_factor=factor, schedule="constant")
    assert str(Span(phase, 1, 1)) == said
