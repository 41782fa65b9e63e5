"""meta.json: what one Sightglass writes another reads, whichever of the two is older."""

import json
from pathlib import Path
from typing import Any

from training.runs.checkpoint import Run
from training.runs.schema import META, Meta

RECIPE = {"model": "residual-cnn", "input_size": 16, "epochs": 6, "optimizer": "sgd", "lr": 0.1, "schedule": "onecycle"}
# as 0.1.0 wrote it: before there was a `fit`, and a recipe that chose itself
OLD: dict[str, Any] = {
    "command": ["/opt/bin/sightglass", "train", "photos", "--out", "run"],
    "created": "2026-11-21T02:41:53+00:00",
    "recipe": RECIPE,
    "asked": RECIPE,
    "weights": None,
    "labels": ["cat", "dog"],
    "input": {
        "width": 16,
        "height": 16,
        "channels": 1,
        "crop_fraction": 1.0,
        "interpolation": "bicubic",
        "mean": [0.5],
        "std": [0.25],
    },
    "data": {"source": "photos", "images": {"train": 80, "val": 10, "test": 10}},
    "versions": {"sightglass": "0.1.0", "torch": "2.15.0"},
    "hardware": {
        "cpu": "AMD EPYC",
        "instruction_set": "avx512-vnni",
        "threads": 2,
        "device": "cpu",
        "precision": "float32",
        "gpu": None,
    },
    "commit": "a188b44513df3792c74710e73ef82dd1f6827f28",
}


def test_what_training_writes_reads_back_as_written(colours_run: Path, tmp_path: Path) -> None:
    written = (colours_run / META).read_text()
    meta = Meta.load(colours_run)
    parts = [part for part in (meta, meta.choice, meta.data, meta.hardware) if part is not None]
    assert [part.model_extra for part in parts] == [{}] * 4, "what is written is described whole"
    meta.save(tmp_path)
    assert (tmp_path / META).read_text() == written


def test_a_run_of_an_early_sightglass_is_read_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    (tmp_path / META).write_text(json.dumps(OLD))
    run = Run.open(tmp_path)
    assert (run.labels, run.recipe.epochs, run.input.fit) == (("cat", "dog"), 6, "crop")
    assert run.choice == ("the run's own", "resumed")
    dumped = json.loads(json.dumps(run.meta.model_dump()))
    for key in OLD.keys() - {"recipe", "asked"}:  # these come with the defaults that they had
        assert dumped[key] == OLD[key]
    assert RECIPE.items() <= dumped["recipe"].items()


def test_text_that_is_no_utf8_survives(tmp_path: Path) -> None:
    """A path on disk may be any bytes; Python holds them as lone surrogates."""
    source = b"f\xf6to".decode(errors="surrogateescape")
    Meta.model_validate(OLD | {"data": {**OLD["data"], "source": source}}).save(tmp_path)
    assert Meta.load(tmp_path).data.source == source
