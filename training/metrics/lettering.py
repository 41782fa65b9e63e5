"""Text in images: a label holds any script, a font only some. What no font here has is written as its code point."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.font_manager import findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

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
            known = []
            for path in sorted(map(Path, findSystemFonts() if installed is None else installed)):
                with suppress(OSError, RuntimeError):  # no font, or one of bitmaps
                    font = FT2Font(str(path))
                    if font.scalable and not font.family_name.lower().startswith(_BLANK):
                        known.append((path, font))
            for path, font in sorted(known, key=lambda each: each[1].style_name not in _UPRIGHT):
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


def _without(letters: set[str], font: FT2Font) -> set[str]:
    return {letter for letter in letters if not font.get_char_index(ord(letter))}
