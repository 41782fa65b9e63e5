"""The `explain` command: what it takes and what it prints. Nothing heavy is imported at the top."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightglass.cli.options import AsJson, NoProgress, Quiet, echo, echo_fact, print_json, talk_of
from training.console.terminal import columns, distinct, table
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.explain import Findings
    from training.models.layer_table import Layer

SIZE = 32
LARGEST, LONGEST = 10_000, 100_000
_NAMES = {"prediction", "class"}


def explain(
    target: Annotated[str, typer.Argument(metavar="RUN|ARTIFACT|MODEL|LIST", help='LIST: "3,2,1 3,1,1", see below.')],
    images: Annotated[list[Path] | None, typer.Argument(help="Images to explain; they need --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for images and tables.")] = None,
    class_: Annotated[str | None, typer.Option("--class", help="Default: each image's own prediction.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of Grad-CAM and feature maps; default: the last maps.")] = None,
    steps: Annotated[int, typer.Option(min=0, max=LONGEST, help="Of activation maximisation; 0 leaves it out.")] = 200,
    input_size: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST, help=f"Pixels of a side for a MODEL or LIST; default: its own, or {SIZE}."),
    ] = None,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Show what a network has learnt and where it looks.

    With --out: first-layer filters, Grad-CAM and feature maps of the images, what maximises a class, and tables.
    Without: each layer's output size, stride, receptive field and parameters. That also works for a model of
    `sightglass models`, and for a list of kernel,stride,padding[,dilation] of each layer.
    """
    if out is None:
        if images or class_ or layer:
            raise TrainingError("images, --class and --layer are about what goes to --out", "--out FOLDER")
        rows = layers_of(target, input_size)
        if as_json:
            print_json([asdict(row) for row in rows])
            return
        from training.models.layer_table import as_lines

        echo(*as_lines(rows, columns(sys.stdout)))
        return
    from training import explain as explaining
    from training.runs.trained_model import TrainedModel

    if input_size is not None:
        raise TrainingError("a run or an artifact has its own input size", "leave --input-size out")
    talk = talk_of(quiet, no_progress)
    options = explaining.Options(images or [], class_, layer, steps)
    found = explaining.explain(TrainedModel.load(Path(target)), options, out, talk)
    if as_json:
        print_json({"target": target, "out": str(out)} | found.as_json())
    else:
        print_findings(found)
    talk.fact("saved", f"{out}: {' '.join(found.files)}")


def layers_of(target: str, input_size: int | None) -> "list[Layer]":
    """The table of whatever `target` names: a folder, a list of triples, a registered model."""
    import torch

    from training.models import layer_table, registry
    from training.runs.trained_model import TrainedModel

    if Path(target).is_dir():
        loaded = TrainedModel.load(Path(target))
        return layer_table.table(loaded.network, loaded.input.channels, input_size or loaded.recipe.network_size)
    if "," in target:
        return layer_table.table_of(layer_table.parse(target), input_size or SIZE)
    if "/" in target and not registry.zoo_of(target):
        raise TrainingError(f'there is no folder "{target}"', "a run, an artifact, or a name of `sightglass models`")
    channels, classes, size = registry.MODELS[target].at if target in registry.MODELS else registry.LARGE
    size = input_size or size
    try:
        with torch.device("meta"):  # shapes without values: a large size takes no memory
            network = registry.build(target, channels, classes, size)
    except NotImplementedError:  # torchvision's RegNet computes its widths with tensors
        network = registry.build(target, channels, classes, size)
    except TrainingError as error:
        raise TrainingError(str(error), error.hint.replace("--set input_size=", "--input-size ")) from error
    return layer_table.table(network, channels, size)


def print_findings(found: "Findings") -> None:
    """In facts and one table."""
    if found.filters:
        echo_fact("filters", str(found.filters))
    names = distinct(
        row[key] for rows in (found.images, found.maximised) for row in rows for key in _NAMES & row.keys()
    )
    for row in found.images:
        answer = f"{names[row['prediction']]} {row['probability']:.4f}"
        echo_fact("image", f"{row['file']}: {answer}, explained: {names[row['class']]}")
    for row in found.maximised:
        echo_fact("maximum", f"{names[row['class']]}: logit {row['logit_before']:.1f} to {row['logit']:.1f}")
    if found.activity:
        rows = [["block", "kind", "mean |a|", "std", "zeros", "silent"]]
        for block in found.activity:
            numbers = f"{block.mean_absolute:.3f}", f"{block.std:.3f}", f"{block.zeros:.1%}", f"{block.silent:.1%}"
            rows.append([block.name, block.kind, *numbers])
        echo(*table(rows, "<<>>>>", columns(sys.stdout)))
