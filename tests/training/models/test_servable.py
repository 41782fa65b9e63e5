"""The served graph: normalisation, temperature, softmax and activation maps around a network."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from training.models import registry
from training.models.servable import Normalise, Servable

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def pixels(n: int = 4, side: int = 16) -> Tensor:
    return torch.randint(256, (n, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def servable(temperature: float = 1.0) -> Servable:
    torch.manual_seed(0)
    network = registry.build("residual-cnn", 3, 5, 32)
    for each in network.modules():  # as after training: not the identity
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.running_mean, 0, 0.1)
    return Servable(network, Normalise(MEAN, STD), temperature)


def test_normalise_is_pixels_to_unit_minus_mean_over_std() -> None:
    x = pixels()
    plain = ((x.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
    assert torch.allclose(Normalise(MEAN, STD)(x).double(), plain, atol=1e-5)


def test_normalise_reads_float_pixels_like_integers() -> None:
    assert torch.equal(Normalise(MEAN, STD)(pixels().float()), Normalise(MEAN, STD)(pixels()))


def test_one_channel_is_rec_601_luma() -> None:
    x = pixels()
    luma = 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]
    found = Normalise((0.5,), (0.2,))(x)
    assert found.shape == (4, 1, 16, 16)
    assert torch.allclose(found[:, 0], (luma / 255 - 0.5) / 0.2, atol=1e-5)


def test_logits_are_the_networks_own() -> None:
    graph = servable()
    expected = graph.network(graph.normalise(pixels()))
    assert torch.allclose(graph(pixels()).logits, expected, atol=1e-5)


def test_the_mean_of_a_heat_map_is_the_logit() -> None:
    values = servable()(pixels())
    assert values.heatmap is not None
    assert values.heatmap.shape == (4, 5, 2, 2)
    assert torch.allclose(values.heatmap.mean(dim=(2, 3)), values.logits, atol=1e-4)


def test_a_heat_map_is_the_head_at_every_place() -> None:
    graph = servable()
    features = graph.network.features(graph.normalise(pixels()))
    heatmap = graph(pixels()).heatmap
    assert heatmap is not None
    assert torch.allclose(heatmap[2, :, 1, 0], graph.network.head(features[2, :, 1, 0]), atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_the_softmax_of_logits_over_temperature(temperature: float) -> None:
    values = servable(temperature)(pixels())
    scaled = values.logits.double() / temperature
    assert torch.allclose(values.probabilities.double(), scaled.exp() / scaled.exp().sum(1, keepdim=True), atol=1e-6)
    assert torch.equal(values.logits, servable()(pixels()).logits), "the temperature does not touch the logits"


def test_a_network_without_pooled_head_has_no_heat_map() -> None:
    graph = Servable(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)), Normalise(MEAN, STD))
    values = graph(pixels())
    assert values.heatmap is None
    assert values.probabilities.shape == (4, 5)


def test_the_network_is_copied_and_in_evaluation_mode() -> None:
    network = registry.build("deep-residual-cnn", 3, 5, 32).train()
    graph = Servable(network, Normalise(MEAN, STD))
    before = graph(pixels()).logits
    nn.init.zeros_(network.head.weight)
    assert torch.equal(graph(pixels()).logits, before), "neither dropout nor the original's fate changes answers"
    assert network.training


def test_an_image_is_enlarged_between_its_pixels_as_pillow_does() -> None:
    x = pixels(1, 8)
    found = Normalise(MEAN, STD, 24)(x)
    larger = Image.fromarray(x[0].numpy()).resize((24, 24), Image.Resampling.BILINEAR)
    wanted = Normalise(MEAN, STD)(torch.from_numpy(np.array(larger))[None])
    assert found.shape == (1, 3, 24, 24)
    assert (found - wanted).abs().max() < 1 / 255 / min(STD), "within the level to which Pillow rounds"
