"""The commands that the serving install has all it needs for: `verify`, `predict` and `serve`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len

from sightglass.cli.options import AsJson, echo, print_json
from training.console.terminal import columns, distinct, escaped, packed, wrapped
from training.errors import TrainingError, reason

_MARKS: dict[str, Callable[[dict[str, Any]], bool]] = {  # what an answer is not to be taken without
    "(unfamiliar)": lambda row: row.get("unfamiliar") is True,
    "(not accepted)": lambda row: row.get("accept") is False,
}


def verify(artifact: Annotated[Path, typer.Argument()], as_json: AsJson = False) -> None:
    """Run the start-up checks without serving: checksums, decoder, and every variant this install can run."""
    from app.inference.loading import Served
    from app.inference.loading import verify as check

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
        echo(*wrapped(f"{row['result']:<11}  {row['variant']:<11}  ", str(why), columns(sys.stdout)))


def predict(
    words: Annotated[list[str], typer.Argument(metavar="[ARTIFACT] FILE", help="Images; - reads one from stdin.")],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of a running service, in place of ARTIFACT: http://localhost:8000."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1)] = 3,
    variant: Annotated[str, typer.Option(help="auto, onnx, onnx-int8 or torchscript; of an ARTIFACT.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify files: without a server, exactly as the service would, or with --url by a running one.

    With --url, the environment variable SIGHTGLASS_API_KEY is the key if the service asks for one.
    """
    misuse = ""
    if url is None and words[0].startswith(("http://", "https://")):
        misuse = f"a service is named with --url: sightglass predict --url {words[0]} FILE..."
    elif url is None and len(words) < 2:
        misuse = "sightglass predict ARTIFACT FILE...: the images are missing"
    elif url is not None and variant != "auto":
        misuse = "--variant is of an ARTIFACT; a service has one of its own"
    elif url is not None and Path(words[0], "manifest.json").exists():
        misuse = f"with --url the service has the artifact: leave {words[0]} out"
    if misuse:
        raise typer.BadParameter(misuse, param_hint="[ARTIFACT] FILE...")
    rows = predict_by_service(url, words, top_k) if url else predict_here(Path(words[0]), words[1:], top_k, variant)
    if as_json:
        print_json(rows)
    else:  # a row for each file, its name whole; many answers go on below
        width = min(50, max(cell_len(escaped(row["file"])) for row in rows))
        names = distinct(each["class"] for row in rows for each in row.get("top_k", []))
        for row in rows:
            answers = [f"{names[each['class']]} {each['probability']:.4f}" for each in row.get("top_k", [])]
            answers += [words for words, said in _MARKS.items() if said(row)]
            name = escaped(row["file"])
            name += " " * (width - cell_len(name))
            echo(*packed(f"{name}  ", answers or [f"error: {row['error']}"], width=columns(sys.stdout)))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def predict_here(artifact: Path, files: list[str], top_k: int, variant: str) -> list[dict[str, Any]]:
    """A row for each file, `-` being stdin: its top-k, or what is wrong with it. Raises ArtifactError, EngineError."""
    from app.artifact.decoder.decode import ImageError, decode
    from app.artifact.ranking import rank
    from app.inference import loading

    served = loading.start(artifact, variant, device="cpu")
    manifest = served.manifest
    rows: list[dict[str, Any]] = []
    for name in files:
        try:
            content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
            pixels = decode(content, manifest.input).pixels
        except (ImageError, OSError) as error:
            rows.append({"file": name, "error": reason(error)})
            continue
        probabilities, logits, maps = served.engine.run(pixels[None])
        ranked = rank(probabilities[0], manifest.labels, top_k)
        doubts = manifest.doubts(probabilities[0], logits[0], None if maps is None else maps[0], ranked)
        rows.append({"file": name, "top_k": [{"class": label, "probability": p} for label, p in ranked], **doubts})
    return rows


def predict_by_service(url: str, files: list[str], top_k: int) -> list[dict[str, Any]]:
    """The same of a running service. Raises TrainingError where that does not answer."""
    import asyncio

    from sightglass.client import AsyncClient, ClientError

    async def ask() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async with AsyncClient(url, api_key=os.environ.get("SIGHTGLASS_API_KEY") or None) as service:
            # a wrong address or key is one error and not one for each file; and there may be fewer labels
            most = len((await service.model()).labels)
            content = (sys.stdin.buffer.read() if name == "-" else name for name in files)
            async for answer in service.predict_many(content, top_k=min(top_k, most)):
                row: dict[str, Any] = {"file": files[len(rows)]}
                if isinstance(answer, ClientError):
                    row["error"] = str(answer)
                else:
                    row["top_k"] = [{"class": each.label, "probability": each.probability} for each in answer.top_k]
                    doubts = {"unfamiliar": answer.unfamiliar, "accept": answer.accept, "set": answer.set}
                    row |= {name: said for name, said in doubts.items() if said is not None}
                rows.append(row)
        return rows

    try:
        return asyncio.run(ask())  # which Ctrl-C ends at once
    except (ClientError, ValueError) as error:
        hint = "is the service running, and does it take the key of SIGHTGLASS_API_KEY?"
        raise TrainingError(str(error), hint) from error


def serve(
    model: Annotated[Path | None, typer.Option(help="An artifact folder; default: the embedded one.")] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
) -> None:
    """Serve an artifact over HTTP; every setting is also an environment variable, see docs/settings.md."""
    from app.__main__ import main as run_service

    chosen = {"model": model, "host": host, "port": port}
    raise typer.Exit(run_service({name: value for name, value in chosen.items() if value is not None}))
