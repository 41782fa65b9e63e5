"""The commands that make an artifact: `train`, `evaluate` and `export`; and `models` and `recipes`, what train takes.

Nothing heavy is imported at the top.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightglass.cli.options import AsJson, NoProgress, Quiet, echo, print_json, say_next, talk_of
from training.console.terminal import WIDTH, columns, count, table, wrapped


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
    minutes: Annotated[
        float | None, typer.Option(min=0, help="What the run may take: no more epochs than fit into it.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps (Apple).")] = "auto",
    offline: Annotated[bool, typer.Option(help="Download no weights: what is not here is an error.")] = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on a folder of labelled images; leaves a run folder."""
    from training import locks

    locks.require_free(out)  # before torch is imported, which takes seconds
    from training import train as training
    from training.learning import plan

    talk = talk_of(quiet, no_progress)
    planned = plan.make(
        data,
        out,
        recipe,
        set_ or [],
        weights=weights,
        resume=resume,
        force=force,
        device=device,
        offline=offline,
        minutes=minutes,
    )
    if dry_run:
        seconds = training.rehearse(planned, talk)
        if not seconds:
            say_next(talk, "evaluate", str(out))
        if as_json:
            print_json({"run": str(out), "seconds": seconds})
        return
    result = training.train(planned, talk)
    talk.fact("saved", f"{out}: weights.pt meta.json metrics.jsonl splits.json")
    say_next(talk, "evaluate", str(out))
    if quiet and not as_json:
        echo(f"{out}: best epoch {result.epoch}, val accuracy {result.accuracy}")
    if as_json:
        best = {"best_epoch": result.epoch, "val_accuracy": result.accuracy.value}
        print_json({"run": str(out), **best, "seconds": result.seconds})


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
    robust: Annotated[
        bool,
        typer.Option("--robust", help="Also blurred, noisy, compressed, brighter, darker, flatter, turned images."),
    ] = False,
    robust_images: Annotated[
        int | None, typer.Option(min=1, help="The same of so many images, of every class its share, in place of 500.")
    ] = None,
    min_accuracy: Annotated[float, typer.Option(min=0, max=1, help="Exit with 3 below this fraction.")] = 0.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every class, not only the worst 20.")] = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Score a run or an artifact: accuracy with its interval, F1 per class, confusions, calibration; with --robust also
    of images as they come to be on their way, in five severities each."""
    from training import atomic
    from training import evaluate as scoring
    from training.errors import Refused
    from training.report import evaluation, robustness

    talk = talk_of(quiet, no_progress)
    if out:
        atomic.require_new(out)
    corrupted = robust_images or (scoring.CORRUPTED if robust else 0)
    predictions = scoring.evaluate(target, data, split, variant, talk, robust=corrupted)
    talk.fact("scored", f"{predictions.split} of {predictions.data}: {count(len(predictions.pixels), 'image')}")
    if as_json:
        print_json(predictions.as_json())
    else:
        echo(*evaluation.table(predictions, columns(sys.stdout), every=verbose))
        if predictions.robustness:
            echo("", *robustness.table(predictions.robustness, columns(sys.stdout)))
    if predictions.robustness:
        talk.fact("robust", robustness.about(predictions.robustness))
    if out:
        evaluation.write(predictions, target, out)
        files = f"{' '.join(robustness.FILES)} " if corrupted else ""
        talk.fact("saved", f"{out}: {files}evaluation.json predictions.csv suspects.csv and plots")
    talk.fact("trust", str(predictions.evaluation.calibration))
    talk.fact("look", evaluation.look(predictions, out))
    if (target / "meta.json").exists():
        say_next(talk, "export", str(target), "--out", f"exports/{target.resolve().name}/1")
    else:
        say_next(talk, "serve", "--model", str(target))
    if predictions.evaluation.accuracy.value < min_accuracy:
        raise Refused(f"accuracy {predictions.evaluation.accuracy.value:.4f} is below --min-accuracy {min_accuracy:g}")


def export(
    target: Annotated[str, typer.Argument(metavar="RUN|timm/NAME|torchvision/NAME")],
    out: Annotated[Path, typer.Option(help="exports/NAME/VERSION; must not exist.")],
    data: Annotated[
        str | None,
        typer.Option(help="Where the run's images are now, if they moved; of a NAME, a folder of photographs."),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=0.999, help="The share of images whose label is to be in their prediction set: 0.95."
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A card.toml: purpose, limits, data, licence, images to try.", show_default=False
        ),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", "--no-pictures", help="Leave your images out of report.html.")
    ] = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    as_json: AsJson = False,
) -> None:
    """Turn a run into an artifact: TorchScript, ONNX and INT8, each proven against the checkpoint.

    A NAME is a network as its makers publish it, with their weights and for their own classes: nothing is trained.
    """
    from training import export as exporting
    from training.errors import TrainingError
    from training.models import registry
    from training.runs.checkpoint import Run
    from training.variants.doubt import COVERAGE

    talk = talk_of(quiet, no_progress)
    if registry.zoo_of(target) and not Path(target).exists():
        if coverage is not None:
            raise TrainingError(
                f"{target} is exported without labelled images, which a coverage is fitted on", "leave --coverage out"
            )
        manifest = exporting.export_published(target, out, data, talk, card=card, images=not no_images)
    else:
        run = Run.open(Path(target))
        promised = COVERAGE if coverage is None else coverage
        manifest = exporting.export(run, out, data, talk, card=card, coverage=promised, images=not no_images)
    say_next(talk, "serve", "--model", str(out))
    if quiet and not as_json:
        echo(f"{out}: {', '.join(manifest.variants)}; default {manifest.default_variant}")
    if as_json:
        print_json(manifest.model_dump(mode="json"))


def models(as_json: AsJson = False) -> None:
    """List the networks that recipes can name."""
    from training.models.registry import MODELS, has_weights_here

    here = {name: has_weights_here(name) for name in MODELS}
    if as_json:
        print_json([{"model": name, **model._asdict(), "weights_here": here[name]} for name, model in MODELS.items()])
        return
    width = columns(sys.stdout)
    rows = [["model", "weights", "here", "MACs", "px", "sees", "heat"]]
    for name, model in MODELS.items():
        sees, heat = str(model.receptive_field or "all"), "yes" if model.heatmap else "no"
        rows.append(
            [
                name,
                f"{model.parameters / 1e6:.2f}M",
                "yes" if here[name] else "",
                f"{model.macs / 1e6:.0f}M",
                str(model.at[2]),
                sees,
                heat,
            ]
        )
    header, *lines = table(rows, "<>>>>>>")
    echo(header)
    for line, model in zip(lines, MODELS.values(), strict=True):
        echo(*(wrapped(f"{line}  ", model.about) if width == WIDTH else [line, *wrapped("    ", model.about, width)]))
    for zoo in ("torchvision", "timm"):
        echo(*wrapped(f"{zoo}/NAME  ", f"nearly any other classification network of {zoo}", width))


def recipes(as_json: AsJson = False) -> None:
    """List the recipes that `train --recipe` takes."""
    from training.recipes import recipe

    rows = [
        {"recipe": name, "about": recipe.about(name), **recipe.load(name).model_dump(mode="json")}
        for name in recipe.names()
    ]
    if as_json:
        print_json(rows)
        return
    width = columns(sys.stdout)
    for row in rows:
        how = f"{row['optimizer']} + {row['schedule']}, {count(row['epochs'], 'epoch')}"
        echo(*wrapped(f"{row['recipe']:<30}  ", row["about"], width))
        echo(*wrapped(" " * 32, f"{row['model']} at {row['input_size']} px, {how}", width))
