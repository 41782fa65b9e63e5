"""What an author says of a model, and the images to try: read whole, or refused with the reason."""

import io
from pathlib import Path

import pytest
from PIL import Image

from training.errors import TrainingError
from training.variants import card


def _jpeg(mode: str = "RGB", side: int = 20) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side), 7).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(_jpeg())
    (tmp_path / "cmyk.jpg").write_bytes(_jpeg("CMYK"))
    (tmp_path / "large.jpg").write_bytes(_jpeg() + bytes(300_000))
    (tmp_path / "cut.jpg").write_bytes(_jpeg(side=200)[:-100])
    (tmp_path / "head.jpg").write_bytes(_jpeg()[:20])
    (tmp_path / "text.jpg").write_text("no image")
    return tmp_path


def _read(folder: Path, text: str) -> card.Authored:
    (folder / "card.toml").write_text(text)
    return card.read(folder / "card.toml")


def test_without_one_nothing_is_said() -> None:
    assert card.read(None) == card.Authored()


def test_what_it_says_and_whom_the_samples_are_of(folder: Path) -> None:
    sample = '[[samples]]\nfile = "a.jpg"\ncredit = "a, by B (CC0)"\n'
    found = _read(folder, 'purpose = "To sort."\nlicence = "mit"\n' + sample)
    assert found.card
    assert found.card.model_dump() == {
        "purpose": "To sort.", "limits": "", "data": "", "licence": "mit", "samples": ("a, by B (CC0)",)
    }  # fmt: skip
    assert found.samples == (_jpeg(),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("purpose = 3", "purpose"),
        ('porpose = "x"', "porpose"),
        ("purpose = ", "not TOML"),
        ('samples = ["a.jpg"]', "samples"),
        ('[[samples]]\nfile = "a.jpg"', "credit"),
        ('[[samples]]\nfile = "a.jpg"\ncredit = " "', "nobody is named"),
        ('[[samples]]\nfile = "b.jpg"\ncredit = "x"', "there is no image"),
        ('[[samples]]\nfile = "large.jpg"\ncredit = "x"', "bytes"),
        ('[[samples]]\nfile = "cmyk.jpg"\ncredit = "x"', "every browser"),
        ('[[samples]]\nfile = "cut.jpg"\ncredit = "x"', "every browser shows: "),
        ('[[samples]]\nfile = "head.jpg"\ncredit = "x"', "every browser shows: "),
        ('[[samples]]\nfile = "text.jpg"\ncredit = "x"', "every browser"),
        ('[[samples]]\nfile = "a.jpg"\ncredit = "x"\n' * 11, "11 samples"),
    ],
)
def test_what_is_none_is_refused(folder: Path, text: str, why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        _read(folder, text)


def test_a_card_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no card"):
        card.read(tmp_path / "card.toml")
    with pytest.raises(TrainingError, match="there is no card"):
        card.read(tmp_path)
