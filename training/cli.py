"""The `sightglass` command. Nothing heavy is imported at the top: `--help` must not wait for torch."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True)


@app.command()
def train(
    data: Annotated[str, typer.Argument()],
    out: Annotated[Path, typer.Option()],
    recipe: Annotated[str, typer.Option()] = "digits",
    set_: Annotated[list[str], typer.Option("--set")] = [],
    resume: bool = False,
) -> None:
    from training import recipe as recipes, train as training
    from training.progress import Talk

    r = recipes.load(recipe, set_)
    print(training.train(data, out, r, resume, Talk()))


@app.command()
def verify() -> None: ...


def main() -> None:
    app()
