"""The `explain` command: what it takes and what it prints. Nothing heavy is imported at the top."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training import TrainingError
from training.terminal import AsJson, NoProgress, Quiet, print_json, talk_of

if TYPE_CHECKING:
    from training.explain import Findings
    from training.layers import Layer

SIZE = 32


def explain(
    target: Annotated[str, typer.Argument(metavar="RUN|ARTIFACT|MODEL|LIST", help='LIST: "3,2,1 3,1,1", see below.')],
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures to explain; they need --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for pictures and tables.")] = None,
    class_: Annotated[str | None, typer.Option("--class", help="Default: each picture's own prediction.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of Grad-CAM and feature maps; default: the last maps.")] = None,
    steps: Annotated[int, typer.Option(min=0, help="Of activation maximisation; 0 leaves it out.")] = 200,
    input_size: Annotated[
        int | None, typer.Option(min=1, help=f"Pixels of a side for a MODEL or LIST; default: its own, or {SIZE}.")
    ] = None,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Show what a network has learnt and where it looks.

    With --out: first-layer filters, Grad-CAM and feature maps of the pictures, what maximises a class, and tables.
    Without: each layer's output size, stride, receptive field and parameters. That also works for a model of
    `sightglass models`, and for a list of kernel,stride,padding[,dilation] of each layer.
    """
    if out is None:
        if pictures or class_ or layer:
            raise TrainingError("pictures, --class and --layer are about what goes to --out", "--out FOLDER")
        _print_layers(_layers(target, input_size), as_json)
        return
    from training import eager
    from training import explain as explaining

    if input_size is not None:
        raise TrainingError("a run or an artifact has its own input size", "leave --input-size out")
    talk = talk_of(quiet, no_progress)
    wish = explaining.Wish(pictures or [], class_, layer, steps)
    found = explaining.explain(eager.load(Path(target)), wish, out, talk)
    if as_json:
        print_json({"target": target, "out": str(out)} | found.as_json())
    else:
        _print_findings(found)
    talk.fact("saved", f"{out}: {' '.join(found.files)}")


def _layers(target: str, input_size: int | None) -> "list[Layer]":
    """The table of whatever `target` names: a folder, a list of triples, a registered model."""
    from training import eager, layers, models

    if Path(target).is_dir():
        loaded = eager.load(Path(target))
        return layers.table(loaded.network, loaded.input.channels, input_size or loaded.input.width)
    if "," in target:
        return layers.table_of(layers.parse(target), input_size or SIZE)
    if "/" in target and not target.startswith(models.ZOO):
        raise TrainingError(f'there is no folder "{target}"', "a run, an artifact, or a name of `sightglass models`")
    channels, classes, size = models.MODELS[target].at if target in models.MODELS else models.LARGE
    size = input_size or size
    return layers.table(models.build(target, channels, classes, size), channels, size)


def _print_layers(rows: "list[Layer]", as_json: bool) -> None:
    from dataclasses import asdict

    from training.layers import as_lines

    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        typer.echo("\n".join(as_lines(rows)))


def _print_findings(found: "Findings") -> None:
    if found.filters:
        typer.echo(
            f"filters  {found.filters.layer}: {found.filters.verdict or '1x1, nothing to compare'}"
            f" (smoothness {found.filters.smoothness:.2f}, of noise up to {found.filters.noise_smoothness:.2f};"
            f" near dead {found.filters.near_dead:.0%})"
        )
    for row in found.pictures:
        typer.echo(f"picture  {row['file']}: {row['prediction']} {row['probability']:.4f}, explained: {row['class']}")
    for row in found.maximised:
        typer.echo(f"maximum  {row['class']}: logit {row['logit_before']:.1f} to {row['logit']:.1f}")
    if found.activity:
        width = max(5, *(len(row.name) for row in found.activity))
        typer.echo(f"{'block':<{width}}  {'kind':<20}  mean |a|     std   zeros  silent")
        for block in found.activity:
            numbers = f"{block.mean_absolute:8.3f}  {block.std:6.3f}  {block.zeros:6.1%}  {block.silent:6.1%}"
            typer.echo(f"{block.name:<{width}}  {block.kind:<20}  {numbers}")
