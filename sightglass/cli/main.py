"""The `sightglass` command. Nothing heavy is imported at the top: `--help` must not wait for torch."""

import codecs
import os
import sys
from contextlib import nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from app import DISTRIBUTION
from sightglass.cli import explain, serving
from sightglass.cli.options import AsJson, NoProgress, Quiet, echo
from sightglass.cli.options import print_json as _print_json
from sightglass.cli.options import say_next as _next
from sightglass.cli.options import talk_of as _talk
from training.console.terminal import WIDTH, columns, count, escaped, wrapped

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


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sightglass {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """A folder of labelled images in, a production image-classification service out."""
    if context.invoked_subcommand is None:
        typer.echo(FIVE_STEPS, nl=False)


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="A folder of class folders, or digits, cifar10, mnist, fashion-mnist.")],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name or TOML file; chosen from the data if left out.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--from", metavar="RUN|ARTIFACT|WEIGHTS", help="Start from what another has learnt.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one recipe key: epochs=10.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on after the last finished epoch.")] = False,
    force: Annotated[bool, typer.Option(help="Replace an existing run.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would happen and how long it takes; write nothing.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on a folder of labelled images; leaves a run folder."""
    from training import locks

    locks.require_free(out)  # before torch is imported, which takes seconds
    from training import train as training
    from training.learning import plan

    talk = _talk(quiet, no_progress)
    planned = plan.make(data, out, recipe, set_ or [], weights=weights, resume=resume, force=force, device=device)
    if dry_run:
        seconds = training.rehearse(planned, talk)
        if not seconds:
            _next(talk, "evaluate", str(out))
        if as_json:
            _print_json({"run": str(out), "seconds": seconds})
        return
    result = training.train(planned, talk)
    talk.fact("saved", f"{out}: weights.pt meta.json metrics.jsonl splits.json")
    _next(talk, "evaluate", str(out))
    if quiet and not as_json:
        echo(f"{out}: best epoch {result.epoch}, val accuracy {result.accuracy}")
    if as_json:
        best = {"best_epoch": result.epoch, "val_accuracy": result.accuracy.value}
        _print_json({"run": str(out), **best, "seconds": result.seconds})


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RUN|ARTIFACT")],
    data: Annotated[str | None, typer.Option(help="Images to score on; default: the run's own.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test; default: test, or all of a plain folder.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Of an artifact; default: its default variant.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for evaluation.json, predictions.csv, suspects.csv and plots.")
    ] = None,
    min_accuracy: Annotated[float, typer.Option(min=0, max=1, help="Exit with 3 below this fraction.")] = 0.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every class, not only the worst 20.")] = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Score a run or an artifact: accuracy with its interval, F1 per class, confusions, calibration."""
    from training import atomic
    from training import evaluate as scoring
    from training.errors import Refused
    from training.report import evaluation

    talk = _talk(quiet, no_progress)
    if out:
        atomic.require_new(out)
    predictions = scoring.evaluate(target, data, split, variant, talk)
    talk.fact("scored", f"{predictions.split} of {predictions.data}: {count(len(predictions.pixels), 'image')}")
    if as_json:
        _print_json(predictions.as_json())
    else:
        echo(*evaluation.table(predictions, columns(sys.stdout), every=verbose))
    if out:
        evaluation.write(predictions, target, out)
        talk.fact("saved", f"{out}: evaluation.json predictions.csv suspects.csv and plots")
    talk.fact("trust", str(predictions.evaluation.calibration))
    talk.fact("look", evaluation.look(predictions, out))
    if (target / "meta.json").exists():
        _next(talk, "export", str(target), "--out", f"exports/{target.resolve().name}/1")
    else:
        _next(talk, "serve", "--model", str(target))
    if predictions.evaluation.accuracy.value < min_accuracy:
        raise Refused(f"accuracy {predictions.evaluation.accuracy.value:.4f} is below --min-accuracy {min_accuracy:g}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument()],
    out: Annotated[Path, typer.Option(help="exports/NAME/VERSION; must not exist.")],
    data: Annotated[str | None, typer.Option(help="Where the run's images are now, if they moved.")] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", "--no-pictures", help="Leave your images out of report.html.")
    ] = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Turn a run into an artifact: TorchScript, ONNX and INT8, each proven against the checkpoint."""
    from training import export as exporting
    from training.runs.checkpoint import Run

    talk = _talk(quiet, no_progress)
    manifest = exporting.export(Run.open(run), out, data, talk, images=not no_images)
    _next(talk, "serve", "--model", str(out))
    if quiet and not as_json:
        echo(f"{out}: {', '.join(manifest.variants)}; default {manifest.default_variant}")
    if as_json:
        _print_json(manifest.model_dump(mode="json"))


app.command()(serving.verify)
app.command()(serving.predict)
app.command()(explain.explain)
app.command()(serving.serve)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the networks that recipes can name."""
    from training.models.registry import MODELS

    if as_json:
        _print_json([{"model": name, **model._asdict()} for name, model in MODELS.items()])
        return
    width = columns(sys.stdout)
    echo(f"{'model':<30}  weights     MACs   px  sees  heat maps")
    for name, model in MODELS.items():
        sees = str(model.receptive_field or "all")
        heat = "yes" if model.heatmap else "no"
        figures = f"{model.parameters / 1e6:6.2f}M  {model.macs / 1e6:6.0f}M  {model.at[2]:3}  {sees:>4}  {heat:<3}"
        row = f"{name:<30}  {figures}"
        echo(*(wrapped(f"{row}  ", model.about) if width == WIDTH else [row, *wrapped("    ", model.about, width)]))
    echo(*wrapped("torchvision/NAME                ", "nearly any other classification network of torchvision", width))


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """List the recipes that `train --recipe` takes."""
    from training.recipes import recipe

    rows = [
        {"recipe": name, "about": recipe.about(name), **recipe.load(name).model_dump(mode="json")}
        for name in recipe.names()
    ]
    if as_json:
        _print_json(rows)
        return
    width = columns(sys.stdout)
    for row in rows:
        how = f"{row['optimizer']} + {row['schedule']}, {count(row['epochs'], 'epoch')}"
        echo(*wrapped(f"{row['recipe']:<30}  ", row["about"], width))
        echo(*wrapped(" " * 32, f"{row['model']} at {row['input_size']} px, {how}", width))


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
    except Exception as error:  # the last frame: whatever `_say` does not know goes on as a traceback
        code = _say(error)
        if code is None or os.environ.get("SIGHTGLASS_DEBUG"):
            raise
        sys.exit(code)


def _say(error: Exception) -> int | None:
    """Print a known error and answer its exit code; None for an error of ours."""
    from app.artifact.manifest import ArtifactError
    from app.engines import EngineError
    from training.errors import Refused, TrainingError

    code, hint = 1, getattr(error, "hint", "")
    if isinstance(error, ModuleNotFoundError):
        extra = "mlflow" if error.name == "mlflow" else "train"
        hint, code = f"pip install -e '.[{extra}]'", 2
        error = TrainingError(f"this command needs {error.name}, which the serving install leaves out")
    elif isinstance(error, Refused):
        code = 3
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        error = TrainingError(f'"{error.filename}": {error.strerror}')
    elif not isinstance(error, TrainingError | ArtifactError | EngineError | OSError):
        return None
    _print_error("error: ", str(error))
    if hint:
        typer.echo(err=True)
        _print_error("hint: ", hint)
    return code


def _print_error(name: str, text: str) -> None:
    """One line, which a log keeps whole; on a terminal as many as it takes."""
    lines = wrapped(name, text, columns(sys.stderr)) if sys.stderr.isatty() else [name + escaped(text)]
    typer.echo("\n".join(lines), err=True)
