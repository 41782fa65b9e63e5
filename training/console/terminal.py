"""Text as a terminal shows it: nothing that steers it, and widths in columns instead of characters."""

import io
import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TextIO

from rich.cells import cell_len, set_cell_size

WIDTH = 100  # columns at most
NAME = 40  # columns of a name within a sentence, at most
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, invisible formatting, lone surrogates, line separators
_JOINERS = "\u200c\u200d"  # formatting too, but Persian words and emoji need them
# What is not broken over two lines: commands to paste, what stands in quotes, an option with its value.
_WHOLE = re.compile(r"""(?:\b(?:sightglass|pip|curl) [^;]*[^;\s]|`[^`]+`|"[^"]*"|--[\w-]+ \S+|\S)+""")


def columns(stream: TextIO) -> int:
    """Of the terminal behind `stream`, at most WIDTH; WIDTH where there is none."""
    return min(WIDTH, os.get_terminal_size(stream.fileno()).columns or WIDTH) if stream.isatty() else WIDTH


def escaped(text: str) -> str:
    """Names come from folders and artifacts: an ESC in one must not reach the terminal, nor a newline split a row."""
    if text.isascii() and text.isprintable():
        return text
    with suppress(UnicodeEncodeError):  # surrogates that are no bytes
        # letters of paths that Python, under a locale without them, holds as surrogates for their bytes
        text = text.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _STEERING and letter not in _JOINERS
        else letter
        for letter in text
    )


def shortened(text: str, width: int = NAME) -> str:
    """At most `width` columns (4 or more) of escaped text, cut in the middle: names may differ at both ends."""
    return _cut(escaped(text), width, (width - 3) // 2)


def _cut(text: str, width: int, end: int, start: int = 0, most: int = 0) -> str:
    """At most `width` columns, of them `end` from the end, and `most` from `start` on."""
    if cell_len(text) <= width:
        return text
    tail = text[-width:]
    while tail and (cell_len(tail) > end or not cell_len(tail[0])):
        tail = tail[1:]
    tail = (set_cell_size(text[start:], most) if most else "") + "..." * bool(most) + tail
    return set_cell_size(text, width - 3 - cell_len(tail)) + "..." + tail


def distinct(names: Iterable[str], width: int = NAME) -> dict[str, str]:
    """Each name in at most `width` columns (8 or more) of escaped text, so that no two become the same.

    Cut in the middle; where that makes several alike, further to the left or right, then to both sides of where they
    differ, and where not even that helps with a number.
    """
    shown = {name: shortened(name, width) for name in names}
    alike: dict[str, list[str]] = {}
    for name, cut in shown.items():
        alike.setdefault(cut, []).append(name)
    taken = set()
    for cut, group in alike.items():
        kept = [name for name in group if escaped(name) == cut] or group
        if len(kept) == 1:  # it is alone with this cut, or with being whole
            group.remove(kept[0])
            taken.add(cut)
    for group in (sorted(group) for group in alike.values() if group):
        texts = [escaped(name) for name in group]
        fitting = (cut for cut in _cuts(texts, width) if len({*cut}) == len(group) and taken.isdisjoint(cut))
        found = next(fitting, None) or _numbered(texts, width, taken)
        taken.update(found)
        shown |= zip(group, found, strict=True)
    return shown


def _cuts(texts: Sequence[str], width: int) -> Iterator[list[str]]:
    for end in (*range((width - 3) // 2 + 1, width - 3), *range((width - 3) // 2)):
        yield [_cut(text, width, end) for text in texts]
    letters = enumerate(zip(*texts, strict=False))
    start, each = next((place for place, column in letters if len({*column}) > 1), 0), (width - 6) // 4
    if each:
        yield [_cut(text, width, each, start, width - 6 - 2 * each) for text in texts]


def _numbered(texts: Sequence[str], width: int, taken: set[str]) -> list[str]:
    found: list[str] = []
    for text in texts:
        for number in itertools.count(1):
            mark = f"~{number}"
            cut = _cut(text, width - len(mark), (width - len(mark) - 3) // 2) + mark
            if cut not in taken and cut not in found:
                found.append(cut)
                break
    return found


def table(rows: Sequence[Sequence[str]], align: str, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns; the first row is the header. `align` has < or > for each column.

    The layout is rich's. What it cannot do is done before: where that is too narrow, the widest of the columns that are
    aligned left give way, cut in the middle so that names that differ still do, and numbers are never cut.
    """
    from rich.console import Console  # 30 ms, for which no command that prints no table should wait
    from rich.table import Table
    from rich.text import Text

    columns = [[escaped(cell) for cell in column] for column in zip(*rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    names = [number for number, side in enumerate(align) if side == "<"]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(names, key=lambda number: widths[number])
        if widths[widest] <= max(4, cell_len(columns[widest][0])):
            break
        widths[widest] -= 1
    for number in names:
        shown = distinct(columns[number], widths[number])
        columns[number] = [shown[name] for name in columns[number]]
    layout = Table(box=None, pad_edge=False, show_header=False)
    for side, least in zip(align, widths, strict=True):
        layout.add_column(justify="left" if side == "<" else "right", no_wrap=True, min_width=least)
    for row in zip(*columns, strict=True):
        layout.add_row(*map(Text, row))
    console = Console(width=sum(widths) + 2 * len(widths), color_system=None, file=io.StringIO())
    lines = console.render_lines(layout, pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def wrapped(name: str, text: str, width: int = WIDTH) -> list[str]:
    """`name` and a sentence behind it, in lines of at most `width` columns; a command stays in one piece."""
    return packed(name, _WHOLE.findall(escaped(text)), " ", width) or [name]


def packed(name: str, parts: Sequence[str], between: str = "  ", width: int = WIDTH) -> list[str]:
    """`name` and the parts behind it, in as few lines of at most `width` columns as it takes; no part is broken."""
    name, margin = escaped(name), " " * cell_len(escaped(name))
    lines: list[str] = []
    for part in map(escaped, parts):
        if lines and cell_len(lines[-1] + between + part) <= width:
            lines[-1] += between + part
        else:
            lines.append((margin if lines else name) + part)
    return lines


def count(number: int, one: str, many: str = "") -> str:
    """E.g. `1 image`, `3,670 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
