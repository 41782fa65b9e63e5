"""What the commands share: their common options and how they speak. Nothing heavy is imported at the top."""

import json
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training.console.terminal import columns, escaped, wrapped

if TYPE_CHECKING:
    from training.console.progress import Talk

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors and the result.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No bars, even on a terminal.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def talk_of(quiet: bool, no_progress: bool) -> "Talk":
    """What a command says on stderr while it works."""
    from training.console.progress import Talk

    return Talk(quiet, bars=not no_progress)


def say_next(talk: "Talk", *words: str) -> None:
    """The command that comes after this one, ready to paste."""
    talk.command("next", shlex.join(["sightglass", *words]))


def echo(*lines: str) -> None:
    """The result, on stdout; each line is one line whatever names it holds."""
    typer.echo("\n".join(map(escaped, lines)))


def echo_fact(name: str, text: str) -> None:
    """A named sentence, on stdout."""
    echo(*wrapped(f"{name:<9}", text, columns(sys.stdout)))


def print_json(document: Any) -> None:
    """The one document on stdout."""
    typer.echo(json.dumps(document, indent=2))
