"""What a network has learnt and where it looks, as images and tables in one new folder."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from app.artifact.decoder.decode import ImageError, decode
from training import atomic
from training.console.progress import Talk
from training.errors import TrainingError, nearest, reason
from training.interpretation import activations, figures
from training.interpretation.activation_maximization import maximise
from training.interpretation.figures import Seen
from training.interpretation.filters import Filters, describe, first
from training.interpretation.gradcam import grad_cam
from training.interpretation.hooks import layer as layer_of
from training.learning.learner import use_cores
from training.models.layer_table import Layer, table
from training.runs.trained_model import TrainedModel

CLASSES = 10  # that are maximised at once


@dataclass(frozen=True)
class Wish:
    """What to explain: image files, a class and a layer (None: each image's own answer, the last maps)."""

    images: Sequence[Path] = ()
    label: str | None = None
    layer: str | None = None
    steps: int = 200


@dataclass
class Findings:
    """Everything but the images; `as_json` is explain.json."""

    layers: list[Layer]
    filters: Filters | None = None
    activity: list[activations.Activity] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    maximised: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        document = asdict(self)
        return {"pictures": document.pop("images"), **document}  # its key from before there was one word for it


def explain(eager: TrainedModel, wish: Wish, out: Path, talk: Talk) -> Findings:
    """Write the new folder `out`; nothing is left behind where a wish cannot be met.

    Raises TrainingError for an unknown class or layer and for an image that cannot be read.
    """
    atomic.require_new(out)
    use_cores()
    label = None if wish.label is None else _number(wish.label, eager.labels)
    images = [_read(path, eager) for path in wish.images]
    blank = eager.normalise(torch.zeros(1, eager.input.height, eager.input.width, 3))
    with atomic.new_folder(out) as folder:
        found = Findings(table(eager.network, eager.input.channels, eager.input.width))
        _explain_filters(eager, found, folder)
        if images:
            layer = wish.layer or activations.last_maps(eager.network, blank)
            found.activity = activations.statistics(eager.network, torch.cat([each.x for each in images]))
            for number, seen in enumerate(images, 1):
                _explain_image(eager, seen, f"{number:02}-{seen.path.stem}", layer, label, found, folder)
        elif wish.layer:
            layer_of(eager.network, wish.layer)
            raise TrainingError(f'layer "{wish.layer}" answers to images, and there are none', "name image files")
        if wish.steps:
            _maximise(eager, _asked(label, found, eager), wish.steps, found, folder, talk)
        _write_tables(found, folder)
    return found


def _number(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise TrainingError(f'there is no class "{label}"', nearest(label, labels))
    return labels.index(label)


def _read(path: Path, eager: TrainedModel) -> Seen:
    try:
        content = path.read_bytes()
        decoded = decode(content, eager.input)
    except (ImageError, OSError) as error:
        raise TrainingError(f'"{path}" cannot be read: {reason(error)}') from error
    return Seen(path, content, decoded, eager.normalise(torch.from_numpy(decoded.pixels)[None]))


def _save(image: Image.Image, name: str, found: Findings, folder: Path) -> None:
    image.save(folder / name)
    found.files.append(name)


def _explain_filters(eager: TrainedModel, found: Findings, folder: Path) -> None:
    try:
        name, weights = first(eager.network)
    except TrainingError:  # of dense layers only
        return
    found.filters = describe(name, weights)
    _save(figures.of_filters(found.filters, weights), "filters.png", found, folder)


def _explain_image(
    eager: TrainedModel, seen: Seen, name: str, layer: str, label: int | None, found: Findings, folder: Path
) -> None:
    probabilities = eager.probabilities(seen.x)[0]
    top = int(probabilities.argmax())
    chosen = top if label is None else label
    heat = grad_cam(eager.network, layer, seen.x, chosen).numpy()
    row: dict[str, Any] = {
        "file": str(seen.path),
        "prediction": eager.labels[top],
        "probability": probabilities[top].item(),
        "class": eager.labels[chosen],
        "class_probability": probabilities[chosen].item(),
        "layer": layer,
        "grad_cam": heat.tolist(),
    }
    found.images.append(row)
    title = f"{seen.path.name}: {row['prediction']}, p = {row['probability']:.3f}"
    about = f"{row['class']}, p = {row['class_probability']:.3f}"
    overlay = figures.of_grad_cam(seen, eager.input, title, about, layer, heat)
    _save(overlay, f"{name}-gradcam.png", found, folder)
    maps = activations.maps_of(eager.network, layer, seen.x)[0]
    _save(figures.of_maps(layer, maps), f"{name}-maps.png", found, folder)


def _maximise(
    eager: TrainedModel, numbers: Sequence[int], steps: int, found: Findings, folder: Path, talk: Talk
) -> None:
    with talk.step("activation maximisation", steps) as progress:
        best = maximise(eager, numbers, steps, progress=progress)
    names = [eager.labels[number] for number in numbers]
    for name, before, after, probability in zip(names, best.before, best.after, best.probability, strict=True):
        row: dict[str, Any] = {
            "class": name,
            "logit_before": before,
            "logit": after,
            "probability": probability,
            "steps": steps,
        }
        found.maximised.append(row)
    _save(figures.of_maximised(names, best, steps), "maximised.png", found, folder)


def _asked(label: int | None, found: Findings, eager: TrainedModel) -> list[int]:
    """The classes to maximise: the one asked for, or those that were explained, or the first ones."""
    if label is not None:
        return [label]
    explained = dict.fromkeys(eager.labels.index(each["class"]) for each in found.images)
    return list(explained or range(len(eager.labels)))[:CLASSES]


def _write_tables(found: Findings, folder: Path) -> None:
    tables: dict[str, Sequence[Layer] | Sequence[activations.Activity]] = {
        "layers.csv": found.layers,
        "activations.csv": found.activity,
    }
    for name, rows in tables.items():
        if rows:
            atomic.write(folder / name, _csv([asdict(row) for row in rows]))
            found.files.append(name)
    found.files.append("explain.json")
    atomic.write(folder / "explain.json", json.dumps(found.as_json(), indent=1) + "\n")


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "x".join(map(str, value)) if isinstance(value, tuple) else value for key, value in row.items()}
        for row in rows
    )
    return text.getvalue()
