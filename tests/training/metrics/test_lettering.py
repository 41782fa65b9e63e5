"""Labels in figures can be told apart in every script, with fonts for it and without."""

from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from numpy.typing import NDArray
from PIL import Image

from training.interpretation import figures
from training.metrics import lettering, plots
from training.metrics.classification import Evaluation
from training.metrics.lettering import Lettering

BOX = 600


def font(path: Path, family: str, letters: str, style: str = "Regular") -> Path:
    """A font in which every letter is a bar of another height."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in letters})
    glyphs = {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        pen.moveTo((50, 0))
        for point in ((50, 200 + 150 * number), (450, 200 + 150 * number), (450, 0)):
            pen.lineTo(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (BOX, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": style})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    builder.save(path)
    return path


def evaluation(names: tuple[str, ...]) -> Evaluation:
    labels = np.arange(len(names))
    return Evaluation.of(names, labels, np.eye(len(names), dtype=np.float32))


def drawn(names: tuple[str, ...], folder: Path) -> NDArray[np.int64]:
    figure = plots.draw(evaluation(names), None)["confusion"]
    plots.save(figure, folder / "confusion.png", "png")
    return np.asarray(Image.open(folder / "confusion.png").convert("L")).astype(np.int64)


def differ(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return one.shape != other.shape or int((abs(one - other) > 64).sum()) > 50


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any fonts but matplotlib's."""
    monkeypatch.setattr(lettering, "findSystemFonts", list)


SCRIPTS = [
    (("狗", "猫", "鳥"), ("船", "花", "車")),
    (("개", "고양이"), ("배", "꽃")),
    (("หมา", "แมว"), ("เรือ", "ดอก")),
    (("कुत्ता", "बिल्ली"), ("जहाज़", "फूल")),
    (("🐕", "🐈"), ("⛵", "🌸")),
    (("собака", "кошка"), ("корабль", "цветок")),
    (("dog 狗", "dog 猫"), ("dog 船", "dog 花")),
    (("\ue000", "\ue001"), ("\ue002", "\ue003")),  # nobody's
]


@pytest.mark.parametrize(("one", "other"), SCRIPTS)
@pytest.mark.usefixtures("bare")
def test_figures_of_different_names_differ_without_a_font_for_them(
    one: tuple[str, ...], other: tuple[str, ...], tmp_path: Path
) -> None:
    assert differ(drawn(one, tmp_path), drawn(other, tmp_path))


@pytest.mark.parametrize(("one", "other"), SCRIPTS)
def test_figures_of_different_names_differ_with_the_fonts_of_this_machine(
    one: tuple[str, ...], other: tuple[str, ...], tmp_path: Path
) -> None:
    assert differ(drawn(one, tmp_path), drawn(other, tmp_path))


@pytest.mark.usefixtures("bare")
def test_sheets_of_tiles_differ_too(tmp_path: Path) -> None:
    def sheet(title: str, caption: str) -> NDArray[np.int64]:
        tile = np.zeros((20, 300, 3), np.uint8)
        figures.save(figures.grid(title, [(tile, caption)], 1, 300), tmp_path / "sheet.png")
        return np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(np.int64)

    assert differ(sheet("t", "狗"), sheet("t", "猫"))
    assert differ(sheet("狗.jpg", "c"), sheet("猫.jpg", "c"))
    assert differ(sheet("t", "собака"), sheet("t", "кошкаа"))
    sheet("\udcc3\x1b[2J\n", "\ud800")


def test_what_no_font_has_is_its_code_point() -> None:
    letters = Lettering.of(["dog 狗", "cat"], installed=[])
    assert letters.written("dog 狗 é \x1b") == r"dog U+72D7 é \x1b"
    assert letters.fonts == (lettering.BASE,)


def test_a_font_that_has_the_letters_is_used_and_only_then(tmp_path: Path) -> None:
    one, other = font(tmp_path / "a.ttf", "One", "狗猫"), font(tmp_path / "b.ttf", "Other", "鳥猫")
    (tmp_path / "c.ttf").write_bytes(b"no font")
    installed = [tmp_path / "c.ttf", one, other]
    assert Lettering.of(["cat", "собака"], installed).fonts == (lettering.BASE,)
    assert Lettering.of(["狗"], installed).fonts == (lettering.BASE, one)
    letters = Lettering.of(["狗", "鳥", "船"], installed)
    assert letters == ((lettering.BASE, one, other), {"船"})
    assert letters.families() == ["DejaVu Sans", "One", "Other"]
    assert letters.written("狗鳥船") == "狗鳥U+8239"


def test_a_regular_font_goes_before_a_bold_one_and_one_of_boxes_is_none(tmp_path: Path) -> None:
    bold = font(tmp_path / "a.ttf", "Face", "狗", "Bold")
    regular = font(tmp_path / "b.ttf", "Face Regular", "狗")
    boxes = font(tmp_path / "0.ttf", "Last Resort High-Efficiency", "狗")
    assert Lettering.of(["狗"], [boxes, bold, regular]).fonts == (lettering.BASE, regular)
    assert Lettering.of(["狗"], [boxes]).missing == {"狗"}


@pytest.mark.usefixtures("bare")
def test_glyphs_of_a_found_font_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not code points: a letter is a bar of a width, U+72D7 is wider."""
    found = font(tmp_path / "a.ttf", "Bars", "狗猫鳥船花車")
    without = drawn(("狗", "猫", "鳥"), tmp_path)
    monkeypatch.setattr(lettering, "findSystemFonts", lambda: [str(found)])
    one, other = drawn(("狗", "猫", "鳥"), tmp_path), drawn(("船", "花", "車"), tmp_path)
    assert one.shape == other.shape
    assert differ(one, other)
    assert (one < 128).sum() != (without < 128).sum()


def test_long_names_are_cut_so_that_they_differ(tmp_path: Path) -> None:
    cars = [f"Chevrolet Silverado 1500 {cab} Cab 2012" for cab in ("Extended", "Regular", "Hybrid Crew")]
    axes = plots.draw(evaluation(tuple(cars)), None)["confusion"].axes[0]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(set(names)) == 3
    assert all(len(name) <= 19 for name in names)
    assert names == [tick.get_text() for tick in axes.get_xticklabels()]
