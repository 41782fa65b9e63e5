"""The verdict table that the export prints, and the gates in words."""

from collections.abc import Sequence

from app.artifact.manifest import Manifest
from app.engines.variants import BASELINE
from training.console.terminal import count, table
from training.variants import gates
from training.variants.gates import Verdict
from training.variants.proof import CHECKPOINT


def gate_sentence() -> str:
    """The limits in words."""
    return (
        f"fp32 agrees >= {gates.FP32_AGREEMENT:.1%}; int8 agrees >= {gates.INT8_AGREEMENT:.0%}, "
        f"drop <= {100 * gates.INT8_DROP:g} pt, speed >= {gates.INT8_SPEEDUP}x onnx at batch 1 and 8"
    )


def verdict(rows: Sequence[Verdict], manifest: Manifest) -> list[str]:
    """The table: sizes, accuracy on test (val for a refused variant), agreement, speed, kept or refused."""
    onnx = next(row.proof for row in rows if row.name == BASELINE)
    lines = [["variant", "size MB", "top-1", "agrees", "max dp", "ms/image", "vs onnx", "verdict"]]
    for row in rows:
        proof, file = row.proof, manifest.files.get(row.file)
        size = f"{file.size_bytes / 1e6:.1f}" if file else "-"
        score = row.test.value if row.test else proof.accuracy
        top1 = "-" if score is None else f"{score:.4f}"
        compared = f"{proof.agreement:.2%}", f"{proof.difference:.1e}"
        speed = f"{proof.cpu_ms[1]:.2f}", f"{onnx.cpu_ms[1] / proof.cpu_ms[1]:.1f}x"
        end = word(row, manifest).partition(":")[0] + ("" if row.test or score is None else " (top-1 on val)")
        lines.append([row.name, size, top1, *compared, *speed, end])
    return table(lines, "<>>>>>><")


def reasons(rows: Sequence[Verdict], manifest: Manifest) -> list[tuple[str, str]]:
    """What the table's last column rests on: (name, sentence)."""
    refused = [("refused", f"{row.name}: {row.objection}") for row in rows if row.objection]
    proof = rows[0].proof
    images = proof.compared if proof.accuracy is None else count(proof.images, "val image")
    images += f" and {proof.judges} of train for agreement" if proof.judges else ""
    where = f"({images}, 1 thread, {manifest.machine.instruction_set})"
    return [*refused, ("gates", gate_sentence()), ("", where), *chance(rows)]


def chance(rows: Sequence[Verdict]) -> list[tuple[str, str]]:
    """Of a kept INT8 whose accuracy on val is further below the checkpoint's than the limit: why it is kept."""
    sentences = []
    for row in rows:
        drop = (rows[0].proof.accuracy or 0) - (row.proof.accuracy or 0)
        if drop > gates.INT8_DROP and not row.objection:
            sentence = f"{row.name}'s drop of {100 * drop:.1f} pt on val is within chance"
            counts = f"{row.proof.lost} of {row.proof.images} lost, {row.proof.won} won"
            sentences.append(("", f"({sentence}: {counts}, exact McNemar p = {row.proof.drop_by_chance:.2f})"))
    return sentences


def word(row: Verdict, manifest: Manifest) -> str:
    """What became of a variant: reference, kept or refused, and why."""
    if row.name == CHECKPOINT:
        return "reference"
    if row.objection:
        return f"refused: {row.objection}"
    return "kept, default" if row.name == manifest.default_variant else "kept"
