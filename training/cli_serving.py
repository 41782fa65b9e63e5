"""The commands that the serving install has all it needs for: `verify`, `predict` and `serve`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from training import reason
from training.terminal import AsJson, print_json


def verify(artifact: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Run the start-up checks without serving: checksums, decoder, and every variant this install can run."""
    from app.startup import Served
    from app.startup import verify as check

    rows = [
        {"variant": variant, "result": "ok", "difference": result.difference, "seconds": result.seconds}
        if isinstance(result, Served)
        else {"variant": variant, "result": "not checked", "why": str(result)}
        for variant, result in check(artifact).items()
    ]
    if as_json:
        print_json({"artifact": str(artifact), "variants": rows})
        return
    for row in rows:
        why = (
            row.get("why") or f"differs from the checkpoint by at most {row['difference']:.1e}, {row['seconds']:.2f} s"
        )
        typer.echo(f"{row['result']:<11}  {row['variant']:<11}  {why}")


def predict(
    artifact: Annotated[Path, typer.Argument()],
    files: Annotated[list[str], typer.Argument(help="Pictures; - reads one from stdin.")],
    top_k: Annotated[int, typer.Option(min=1)] = 3,
    variant: Annotated[str, typer.Option(help="auto, onnx, onnx-int8 or torchscript.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify files without a server, exactly as the service would."""
    from app import startup
    from app.artifact.image import ImageError, decode
    from app.classifier import rank

    served = startup.start(artifact, variant, device="cpu")
    manifest = served.manifest
    rows: list[dict[str, Any]] = []
    for name in files:
        try:
            content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            pixels = decode(content, manifest.input).pixels
        except (ImageError, OSError) as error:
            rows.append({"file": name, "error": reason(error)})
            continue
        ranked = rank(served.engine.run(pixels[None]).probabilities[0], manifest.labels, top_k)
        rows.append({"file": name, "top_k": [{"class": label, "probability": p} for label, p in ranked]})
    if as_json:
        print_json(rows)
    else:
        _print_predictions(rows)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def serve(
    model: Annotated[Path | None, typer.Option(help="An artifact folder; default: the embedded one.")] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
) -> None:
    """Serve an artifact over HTTP; every setting is also an environment variable, see docs/settings.md."""
    from app.__main__ import main as run_service

    chosen = {"model": model, "host": host, "port": port}
    raise typer.Exit(run_service({name: value for name, value in chosen.items() if value is not None}))


def _print_predictions(rows: list[dict[str, Any]]) -> None:
    width = min(50, max(len(row["file"]) for row in rows))
    for row in rows:
        answers = "  ".join(f"{each['class']} {each['probability']:.4f}" for each in row.get("top_k", []))
        name = os.fsencode(row["file"]).decode(errors="backslashreplace")  # it may be no UTF-8
        typer.echo(f"{name:<{width}}  {answers or 'error: ' + row['error']}")
