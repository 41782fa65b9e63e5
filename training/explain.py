"""What a network has learnt and where it looks, as images and tables in one new folder."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from app.artifact.decoder.decode import ImageError, decode
from training import atomic
from training.console.progress import Talk
from training.errors import TrainingError, nearest, reason
from training.interpretation import activations, figures, filters
from training.interpretation.activation_maximization import maximise
from training.interpretation.figures import Floats, InputImage
from training.interpretation.filters import Filters
from training.interpretation.gradcam import grad_cam
from training.interpretation.hooks import layer as layer_of
from training.models.layer_table import Layer, table
from training.runs.trained_model import TrainedModel
from training.threads import use_cores

CLASSES = 10  # that are maximised at once


@dataclass(frozen=True)
class Options:
    """What to explain: image files, a class and a layer (None: each image's own prediction, the last maps)."""

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


def explain(model: TrainedModel, options: Options, out: Path, talk: Talk) -> Findings:
    """Write the new folder `out`; nothing is left behind where an option cannot be met.

    Raises TrainingError for an unknown class or layer and for an image that cannot be read.
    """
    atomic.require_new(out)
    use_cores()
    if options.label not in (None, *model.labels):
        raise TrainingError(f'there is no class "{options.label}"', nearest(str(options.label), model.labels))
    images = [read(path, model) for path in options.images]
    found = Findings(table(model.network, model.input.channels, model.input.width))
    with atomic.new_folder(out) as folder:

        def save(figure: Figure, name: str) -> None:
            figures.save(figure, folder / name)
            found.files.append(name)

        if convolution := filters.first(model.network):
            name, weights = convolution
            found.filters = filters.describe(name, weights)
            save(figures.of_filters(found.filters, weights), "filters.png")
        if images:
            layer = options.layer or activations.last_maps(model.network, images[0].x)
            found.activity = activations.statistics(model.network, torch.cat([each.x for each in images]))
            for number, image in enumerate(images, 1):
                row, cam = evidence(model, image, layer, options.label)
                found.images.append(row)
                name = f"{number:02}-{image.path.stem}"
                save(figures.of_grad_cam(image, model.input, row, cam), f"{name}-gradcam.png")
                save(figures.of_maps(layer, activations.maps_of(model.network, layer, image.x)[0]), f"{name}-maps.png")
        elif options.layer:
            layer_of(model.network, options.layer)
            raise TrainingError(f'layer "{options.layer}" answers to images, and there are none', "name image files")
        if options.steps:
            chosen = [options.label] if options.label else list(dict.fromkeys(row["class"] for row in found.images))
            found.maximised, figure = typical(model, (chosen or model.labels)[:CLASSES], options.steps, talk)
            save(figure, "maximised.png")
        tables: dict[str, Sequence[Layer | activations.Activity]]
        tables = {"layers.csv": found.layers, "activations.csv": found.activity}
        for name, rows in tables.items():
            if rows:
                atomic.write(folder / name, as_csv([asdict(row) for row in rows]))
                found.files.append(name)
        found.files.append("explain.json")
        atomic.write(folder / "explain.json", json.dumps(found.as_json(), indent=1) + "\n")
    return found


def read(path: Path, model: TrainedModel) -> InputImage:
    """The image as the model gets it. Raises TrainingError."""
    try:
        content = path.read_bytes()
        decoded = decode(content, model.input)
    except (ImageError, OSError) as error:
        raise TrainingError(f'"{path}" cannot be read: {reason(error)}') from error
    return InputImage(path, content, decoded, model.normalise(torch.from_numpy(decoded.pixels)[None]))


def evidence(model: TrainedModel, image: InputImage, layer: str, label: str | None) -> tuple[dict[str, Any], Floats]:
    """A row of explain.json about `label`, by default the image's own prediction, and its Grad-CAM float32[h, w]."""
    probabilities = model.probabilities(image.x)[0]
    top = int(probabilities.argmax())
    chosen = top if label is None else model.labels.index(label)
    cam = grad_cam(model.network, layer, image.x, chosen).numpy()
    row = {
        "file": str(image.path),
        "prediction": model.labels[top],
        "probability": probabilities[top].item(),
        "class": model.labels[chosen],
        "class_probability": probabilities[chosen].item(),
        "layer": layer,
        "grad_cam": cam.tolist(),
    }
    return row, cam


def typical(model: TrainedModel, labels: Sequence[str], steps: int, talk: Talk) -> tuple[list[dict[str, Any]], Figure]:
    """Of each class what the network finds most typical: rows of explain.json, and the sheet."""
    with talk.step("activation maximisation", steps) as progress:
        best = maximise(model, [model.labels.index(label) for label in labels], steps, progress=progress)
    columns = labels, best.before, best.after, best.probability, [steps] * len(labels)
    keys = "class", "logit_before", "logit", "probability", "steps"
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows, figures.of_maximised(labels, best, steps)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """With a header; of a tuple `1x2x3`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "x".join(map(str, value)) if isinstance(value, tuple) else value for key, value in row.items()}
        for row in rows
    )
    return text.getvalue()
