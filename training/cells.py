"""Text as a terminal shows it: nothing that steers it, and widths in columns instead of characters."""

import os
import re
import unicodedata
from collections.abc import Sequence
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
    return "".join(map(_escaped, _utf_8(text))) if not (text.isascii() and text.isprintable()) else text


def _utf_8(text: str) -> str:
    """With the letters of paths that Python, under a locale without them, holds as surrogates for their bytes."""
    try:
        return text.encode(errors="surrogateescape").decode(errors="surrogateescape")
    except UnicodeEncodeError:  # surrogates that are no bytes
        return text


def _escaped(character: str) -> str:
    steers = unicodedata.category(character) in _STEERING and character not in _JOINERS
    return character.encode("unicode_escape").decode() if steers else character


def fitted(text: str, width: int, right: bool = False) -> str:
    """Exactly `width` columns of escaped text: padded, or cut in the middle, because names may differ at both ends."""
    text = shortened(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def shortened(text: str, width: int = NAME) -> str:
    """At most `width` columns (4 or more) of escaped text."""
    text = escaped(text)
    if cell_len(text) <= width:
        return text
    tail = text[-width:]
    while tail and (cell_len(tail) > (width - 3) // 2 or not cell_len(tail[0])):
        tail = tail[1:]
    return set_cell_size(text, width - 3 - cell_len(tail)) + "..." + tail


def table(rows: Sequence[Sequence[str]], align: str, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns; the first row is the header. `align` has < or > for each column.

    Where that is too narrow, the widest of the columns that are aligned left give way.
    """
    columns = list(zip(*([escaped(cell) for cell in row] for row in rows), strict=True))
    least = [cell_len(column[0]) for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    names = [number for number, side in enumerate(align) if side == "<"]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(names, key=lambda number: widths[number])
        if widths[widest] <= max(4, least[widest]):
            break
        widths[widest] -= 1
    cells = zip(*(_column(*each) for each in zip(columns, widths, align, strict=True)), strict=True)
    return ["  ".join(row).rstrip() for row in cells]


def _column(cells: Sequence[str], width: int, side: str) -> list[str]:
    return [fitted(cell, width, right=side == ">") for cell in cells]


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
