"""The `sightglass` command. Nothing heavy is imported at the top: `--help` must not wait for torch."""

import codecs
import os
import sys
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Annotated

import typer

from app import DISTRIBUTION
from sightglass.cli import explain, serving, training
from training.console.terminal import columns, escaped, wrapped

FIVE_STEPS = """From a folder of images to a service, in five steps:

  sightglass train photos --out runs/photos              photos/<class>/*.jpg
  sightglass evaluate runs/photos
  sightglass export runs/photos --out exports/photos/1
  sightglass serve --model exports/photos/1
  curl -F file=@cat.jpg localhost:8000/predict

`sightglass --help` lists every command. No images at hand? Use `digits` in place of `photos`.
"""

app = typer.Typer(
    rich_markup_mode=None, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)


# in the order of --help
app.command()(training.train)
app.command()(training.evaluate)
app.command()(training.export)
app.command()(serving.verify)
app.command()(serving.predict)
app.command()(explain.explain)
app.command()(serving.serve)
app.command()(training.models)
app.command()(training.recipes)


def print_version(wanted: bool) -> None:
    """What `--version` does."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sightglass {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True)] = False,
) -> None:
    """A folder of labelled images in, a production image-classification service out."""
    if context.invoked_subcommand is None:
        typer.echo(FIVE_STEPS, nl=False)


def main() -> None:
    """Run the command; a known error becomes `error:` and `hint:`, with the exit codes 1, 2, 3, and 128 + a signal."""
    from training import interruption
    from training.errors import Stopped

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal's encoding has not is no reason to fail
            plain = codecs.lookup(stream.encoding).name == "ascii"  # POSIX and C: nothing is said of the terminal
            stream.reconfigure(encoding="utf-8" if plain else None, errors="backslashreplace")
    try:
        # a service has its own way to end: it drains
        with nullcontext() if sys.argv[1:2] == ["serve"] else interruption.heard(interruption.stop):
            app()
    except Stopped as stopped:
        typer.echo("\n".join(map(escaped, str(stopped).splitlines())), err=True)
        sys.exit(128 + stopped.number)
    except Exception as error:  # the last frame: an error of ours goes on as a traceback
        known = outcome(error)
        if known is None or os.environ.get("SIGHTGLASS_DEBUG"):
            raise
        code, message, hint = known
        parts = [("error: ", message), ("hint: ", hint)][: 2 if hint else 1]
        if sys.stderr.isatty():
            printed = ["\n".join(wrapped(name, text, columns(sys.stderr))) for name, text in parts]
        else:  # a line each, which a log keeps whole
            printed = [name + escaped(text) for name, text in parts]
        typer.echo("\n\n".join(printed), err=True)
        sys.exit(code)


def outcome(error: Exception) -> tuple[int, str, str] | None:
    """The exit code of a known error, what happened and what helps; None for an error of ours."""
    from app.artifact.manifest import ArtifactError
    from app.engines import EngineError
    from training.errors import Refused, TrainingError

    if isinstance(error, ModuleNotFoundError):
        extra = "mlflow" if error.name == "mlflow" else "train"
        message = f"this command needs {error.name}, which the serving install leaves out"
        return 2, message, f"pip install -e '.[{extra}]'"
    if isinstance(error, TrainingError | ArtifactError | EngineError):
        return 3 if isinstance(error, Refused) else 1, str(error), getattr(error, "hint", "")
    if isinstance(error, OSError):
        named = error.strerror and error.filename is not None
        return 1, f'"{error.filename}": {error.strerror}' if named else str(error), ""
    return None
