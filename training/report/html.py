"""report.html: one page that needs no network and no script."""

import json
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from rich.cells import cell_len

from app.artifact.manifest import Manifest, fingerprint
from app.engines.variants import BASELINE
from training.console.terminal import distinct
from training.report.verdict_table import chance, gate_sentence, word
from training.variants.gates import Verdict

FILE = "report.html"


def write(template: str, folder: Path, manifest: Manifest, rows: Sequence[Verdict], **own: Any) -> None:
    """Into `folder`, which holds the artifact's other files already: what every report says of variants, and what is
    the template's `own`."""
    page = (
        environment(manifest.labels)
        .get_template(template)
        .render(
            manifest=manifest,
            labels=manifest.labels,
            rows=rows,
            words=[word(row, manifest) for row in rows],
            onnx=next(row.proof for row in rows if row.name == BASELINE),
            gates=gate_sentence(),
            chance=chance(rows),
            refused=[row.name for row in rows if row.objection],
            recipe=json.dumps(manifest.provenance["recipe"], indent=1),
            files={path.name: fingerprint(path) for path in sorted(folder.iterdir()) if path.is_file()},
            **own,
        )
    )
    (folder / FILE).write_text(page, encoding="utf-8")


def environment(labels: Sequence[str]) -> jinja2.Environment:
    """The page's templates and their filters."""

    @cache
    def cut(columns: int) -> dict[str, str]:
        return distinct(labels, columns)

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "name": lambda text: Markup("<bdi>{}</bdi>").format(_plain(text)),  # of its own writing direction
        "plain": _plain,
        # where the style would cut it at its end: as it is if that is short enough
        "short": lambda label, columns: label if cell_len(label) <= columns else cut(columns)[label],
        "percent": lambda share: f"{100 * share:.1f} %",
        "count": "{:,}".format,
        "median": np.median,
    }
    return environment


def _plain(text: str) -> str:
    """A label or path, which may hold anything that a file name can: bytes that are no UTF-8, line ends, NUL."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(repr(each)[1:-1] if unicodedata.category(each) == "Cc" else each for each in text)
