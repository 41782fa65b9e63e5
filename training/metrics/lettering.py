"""Text in images: a label holds any script, a font only some. What no font here has is written as its code point."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.font_manager import findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

from training.console.terminal import escaped

BASE = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"  # Latin, Greek, Cyrillic, Arabic, Hebrew and more
_BLANK = ("last resort", "lastresort", "adobe blank")  # they have the same box, or nothing, for every letter
_UPRIGHT = ("Regular", "Book", "Roman", "Normal", "Medium")


class Lettering(NamedTuple):
    """Fonts that have, one or the other, every letter of some texts but the `missing`."""

    fonts: tuple[Path, ...]
    missing: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str], installed: Sequence[str | Path] | None = None) -> "Lettering":
        """Those of `installed` fonts, by default the system's, that are needed besides matplotlib's own."""
        missing = _without({letter for text in texts for letter in escaped(text)}, FT2Font(str(BASE)))
        fonts = [BASE]
        if missing:  # else nobody waits for the search
            for path, font in _upright_first(findSystemFonts() if installed is None else installed):
                left = _without(missing, font)
                if left < missing:
                    fonts.append(path)
                    missing = left
        return cls(tuple(fonts), frozenset(missing))

    def written(self, text: str) -> str:
        """`text` with a code point, as U+72D7, for each letter that would be the same box as all others."""
        return "".join(f"U+{ord(each):04X}" if each in self.missing else each for each in escaped(text))

    def families(self) -> list[str]:
        """For matplotlib's `family`, which takes each letter from the first that has it."""
        for path in self.fonts[1:]:
            fontManager.addfont(path)  # its own list may be older than the font
        return [FT2Font(str(path)).family_name for path in self.fonts]


class Pen:
    """Draws lines of any script with Pillow, which by itself takes one font for all."""

    def __init__(self, lettering: Lettering, size: int) -> None:
        self._lettering = lettering
        self._fonts = [(FT2Font(str(path)), ImageFont.truetype(path, size)) for path in lettering.fonts]
        self._ascent = self._fonts[0][1].getmetrics()[0]

    def length(self, text: str) -> float:
        """In pixels."""
        return sum(font.getlength(run) for run, font in self._runs(text))

    def write(self, page: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: tuple[int, int, int]) -> None:
        """`at` is the upper left corner."""
        x, y = at
        for run, font in self._runs(text):
            page.text((x, y + self._ascent), run, ink, font, anchor="ls")
            x += font.getlength(run)

    def _runs(self, text: str) -> list[tuple[str, ImageFont.FreeTypeFont]]:
        runs: list[tuple[str, ImageFont.FreeTypeFont]] = []
        for letter in self._lettering.written(text):
            font = next((font for known, font in self._fonts if known.get_char_index(ord(letter))), self._fonts[0][1])
            if runs and runs[-1][1] is font:
                runs[-1] = runs[-1][0] + letter, font
            else:
                runs.append((letter, font))
        return runs


def _without(letters: set[str], font: FT2Font) -> set[str]:
    return {letter for letter in letters if not font.get_char_index(ord(letter))}


def _upright_first(paths: Iterable[str | Path]) -> list[tuple[Path, FT2Font]]:
    """The fonts that both matplotlib and Pillow can draw with at any size."""
    found = []
    for path in sorted(map(Path, paths)):
        try:
            font = FT2Font(str(path))
            ImageFont.truetype(path, 12)
        except (OSError, RuntimeError):  # no font, or one of bitmaps
            continue
        if font.scalable and not font.family_name.lower().startswith(_BLANK):
            found.append((path, font))
    return sorted(found, key=lambda each: each[1].style_name not in _UPRIGHT)
