"""Every network of the registry takes a training step, is exported and answers over HTTP as its checkpoint does.

`make test` does this with those that differ in what happens to them, `make test-slow` with the others.
"""

from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.artifact.decoder.decode import decode
from tests.commands import QUIET, hurried
from tests.serving import serving
from tests.training import colours
from tests.training.exports import checkpoint
from training.export import export
from training.learning import plan
from training.models import registry
from training.runs.checkpoint import Run
from training.train import train

# Nothing to convolve and no heat map. The residual networks, of one channel and of three, and EfficientNet-Lite0, its
# head replaced and its convolutions grouped, are what all other tests train, export and serve.
ON_EVERY_PUSH = {"mlp"}
SIZES = {"torchvision/alexnet": 64, "torchvision/convnext_tiny": 32, "torchvision/vit_b_16": 32}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ON_EVERY_PUSH else pytest.mark.slow) for name in registry.MODELS]
)
def test_every_model_trains_a_step_exports_and_serves(name: str, tmp_path: Path) -> None:
    data = colours.write(tmp_path / "data", each=8)
    own = registry.MODELS[name].at
    size = SIZES.get(name, 32 if own[2] == 224 else own[2])
    keys = {"model": f'"{name}"', "input_size": size, "channels": own[0], "epochs": 1, "batch_size": 18, "lr": 1e-3}
    keys |= {"val_fraction": 0.2, "test_fraction": 0.1, "optimizer": '"adam"', "schedule": '"constant"'}
    planned = plan.make(str(data), tmp_path / "run", "digits", [f"{key}={value}" for key, value in keys.items()])
    train(planned, QUIET)
    run = Run.open(tmp_path / "run")
    assert [row["epoch"] for row in run.history()] == [1]

    artifact = tmp_path / "exports" / "model" / "1"
    with hurried():
        described = export(run, artifact, None, QUIET)
    assert {"torchscript", "onnx"} <= set(described.variants)
    assert (described.heatmap is not None) == registry.MODELS[name].heatmap

    image = next((data / "red").iterdir()).read_bytes()
    reference = checkpoint(run.folder, described)
    expected = reference.run(decode(image, run.input).pixels[None]).probabilities[0]
    with serving(artifact, tmp_path, VARIANT="onnx") as server:
        answer = httpx2.post(f"{server.url}/predict?top_k=all", files={"file": image}).json()
    found = {row["class"]: row["probability"] for row in answer["top_k"]}
    assert np.allclose([found[label] for label in run.labels], expected, atol=1e-4)
