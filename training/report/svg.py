"""Figures as SVG inside the page: the text is text, and what is black takes the page's own colour."""

import base64
import csv
import io
import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from training.metrics import plots


def svg(figure: Figure) -> Markup:
    """Without the XML header, matplotlib's notes and white paper, and without the ids that every figure repeats."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        legend = axes.get_legend()
        if legend is not None:
            legend.get_frame().set_visible(False)
    buffer = io.StringIO()
    plots.save(figure, buffer, "svg")
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("#000000", "currentColor")
    return Markup(text)  # noqa: S704  # matplotlib's own, which escapes its text


def csv_uri(rows: Iterable[Sequence[object]]) -> str:
    """The rows as a data: URI, for a link that saves them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode(errors="backslashreplace")).decode()
