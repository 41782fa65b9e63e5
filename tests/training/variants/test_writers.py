"""Every file answers as the graph that it was written from."""

from pathlib import Path

import numpy as np
import torch

from app import engines
from app.engines.variants import VARIANTS
from training.models import registry
from training.models.servable import Normalise, Servable
from training.variants.writers import WRITERS

RANDOM = np.random.default_rng(0)


def test_a_graph_that_enlarges_its_image_is_written_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = registry.build("residual-cnn", 3, 5, 40)
    graph = Servable(network, Normalise((0.5,) * 3, (0.25,) * 3, enlarge=40))
    pixels = RANDOM.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    for variant in VARIANTS.values():
        WRITERS[variant.file](graph, pixels, tmp_path / variant.file)
    for name, variant in VARIANTS.items():
        engine = engines.load(name, tmp_path / variant.file, "cpu", 1)
        for size in (1, 3):
            found, expected = engine.run(pixels[:size]), graph(torch.from_numpy(pixels[:size]))
            assert found.heatmap is not None
            assert found.heatmap.shape == (size, 5, 5, 5)
            far = np.abs(found.probabilities - expected.probabilities.numpy()).max()
            assert far < (0.05 if variant.precision == "int8" else 1e-5)
