"""The verdict table that the export prints, and the gates in words."""

from collections.abc import Sequence

from app.artifact.manifest import Manifest
from training import gates
from training.cells import count
from training.gates import Verdict
from training.pixels import Pixels


def gate_sentence() -> str:
    """The limits in words."""
    return (
        f"fp32 agrees >= {gates.FP32_AGREEMENT:.1%}; int8 agrees >= {gates.INT8_AGREEMENT:.0%}, "
        f"drop <= {100 * gates.INT8_DROP:g} pt, speed >= {gates.INT8_SPEEDUP}x onnx at batch 1 and 8"
    )


def verdict(rows: Sequence[Verdict], described: Manifest) -> list[str]:
    """The table: sizes, accuracy on test (val for a refused variant), agreement on val, speed, kept or refused."""
    onnx = next(row.proof for row in rows if row.name == "onnx")
    lines = ["variant      size MB   top-1   agrees   max dp  ms/image  vs onnx  verdict"]
    for row in rows:
        size = f"{described.files[row.file].size_bytes / 1e6:7.1f}" if row.file in described.files else f"{'-':>7}"
        top1 = row.test.value if row.test else row.proof.accuracy
        lines.append(
            f"{row.name:<11}  {size}  {top1:6.4f}  {row.proof.agreement:7.2%}  {row.proof.difference:7.1e}"
            f"  {row.proof.cpu_ms[1]:8.2f}  {onnx.cpu_ms[1] / row.proof.cpu_ms[1]:6.1f}x"
            f"  {word(row, described).partition(':')[0]}{'' if row.test else ' (top-1 on val)'}"
        )
    return lines


def reasons(rows: Sequence[Verdict], described: Manifest, val: Pixels) -> list[tuple[str, str]]:
    """What the table's last column rests on: (name, sentence)."""
    refused = [("refused", f"{row.name}: {row.objection}") for row in rows if row.objection]
    where = f"{count(len(val), 'val image')}, 1 thread, {described.machine.instruction_set}"
    if len(val) < gates.INT8_IMAGES:
        where += f"; int8 needs at least {gates.INT8_IMAGES}"
    return [*refused, ("gates", gate_sentence()), ("", f"({where})")]


def word(row: Verdict, described: Manifest) -> str:
    """What became of a variant: reference, kept or refused, and why."""
    if row.name == "checkpoint":
        return "reference"
    if row.objection:
        return f"refused: {row.objection}"
    return "kept, default" if row.name == described.default_variant else "kept"
