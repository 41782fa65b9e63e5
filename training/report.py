"""report.json and report.html of an artifact, and the verdict table that the export prints."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from app.artifact.manifest import Manifest
from training import gates, plots
from training.gates import Verdict
from training.pixels import Pixels
from training.score import Evaluation

FILES = ("report.json", "report.html")


def gate_sentence() -> str:
    """The limits in words."""
    return (
        f"fp32 agrees >= {gates.FP32_AGREEMENT:.1%}; int8 agrees >= {gates.INT8_AGREEMENT:.0%}, "
        f"drop <= {100 * gates.INT8_DROP:g} pt, speed >= {gates.INT8_SPEEDUP}x onnx at batch 1 and 8"
    )


def verdict(rows: Sequence[Verdict], described: Manifest, val: Pixels) -> list[str]:
    """The table: sizes, accuracy on test (val for a refused variant), agreement on val, speed, kept or why not."""
    onnx = next(row.proof for row in rows if row.name == "onnx")
    lines = ["variant      size MB   top-1   agrees   max dp  ms/image  vs onnx  verdict"]
    for row in rows:
        size = f"{described.files[row.file].size_bytes / 1e6:7.1f}" if row.file in described.files else f"{'-':>7}"
        top1 = row.test.value if row.test else row.proof.accuracy
        lines.append(
            f"{row.name:<11}  {size}  {top1:6.4f}  {row.proof.agreement:7.2%}  {row.proof.difference:7.1e}"
            f"  {row.proof.cpu_ms[1]:8.2f}  {onnx.cpu_ms[1] / row.proof.cpu_ms[1]:6.1f}x  {_word(row, described)}"
        )
    where = f"{len(val):,} val images, 1 thread, {described.machine.instruction_set}"
    return [*lines, f"gates    {gate_sentence()}", f"         ({where})"]


def _word(row: Verdict, described: Manifest) -> str:
    if row.name == "checkpoint":
        return "reference"
    if row.objection:
        return f"refused: {row.objection}"
    return "kept, default" if row.name == described.default_variant else "kept"


def write(
    folder: Path,
    described: Manifest,
    rows: Sequence[Verdict],
    evaluation: Evaluation,
    history: list[dict[str, Any]],
) -> None:
    """Both files; report.html is one file that needs no network and no script."""
    variants = [asdict(row) | {"verdict": _word(row, described)} for row in rows]
    document = {
        "name": described.name,
        "version": described.version,
        "evaluation": {"split": described.metrics.score.split, **evaluation.as_json()},
        "variants": variants,
        "gates": gate_sentence(),
        "history": history,
    }
    (folder / FILES[0]).write_text(json.dumps(document, indent=1) + "\n")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    figures = {name: _svg(figure) for name, figure in plots.draw(evaluation, history).items()}
    page = environment.get_template("report.html.j2").render(
        manifest=described,
        rows=rows,
        words=[_word(row, described) for row in rows],
        onnx=next(row.proof for row in rows if row.name == "onnx"),
        evaluation=evaluation,
        per_class=sorted(evaluation.per_class, key=lambda row: row.f1),
        figures=figures,
        gates=gate_sentence(),
        provenance=json.dumps(described.provenance, indent=2),
    )
    (folder / FILES[1]).write_text(page)


def _svg(figure: Figure) -> Markup:
    """Inline SVG without the XML header."""
    buffer = io.StringIO()
    plots.save(figure, buffer, "svg")
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704  # matplotlib's own, which escapes its text
