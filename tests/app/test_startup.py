from pathlib import Path

from app import startup


def test_every_variant_of_an_artifact_starts(digits_artifact: Path) -> None:
    for variant in ("onnx", "torchscript"):
        assert startup.start(digits_artifact, variant).difference < 1e-4
