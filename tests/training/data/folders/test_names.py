"""Class names that people can tell apart, and those that they cannot."""

import os

import pytest

from training.data.folders import names
from training.errors import TrainingError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("dog", "dog "),
        ("dog", " dog"),
        ("a  b", "a b"),
        ("cat", "c\u200bat"),
        ("x", "x\u00a0"),
    ],
)
def test_names_that_look_alike_are_refused_and_told_apart(one: str, other: str) -> None:
    with pytest.raises(TrainingError, match="look alike") as refusal:
        names.require_apart([one, "third", other], "photos")
    assert ascii(one) in str(refusal.value)
    assert ascii(other) in str(refusal.value)


@pytest.mark.parametrize("other", ["cat food", "CAT_FOOD", "Cat-Food", "cat_food"])
def test_names_that_differ_in_case_and_the_like_are_named(other: str) -> None:
    """They may be meant: a and A are two letters."""
    (said,) = names.require_apart(["Cat food", "dog", other], "photos")
    assert f'"{other}"' in said
    assert "differ only in upper and lower case" in said


@pytest.mark.parametrize("apart", [("cat", "cats"), ("-", "_"), ("+", "-", " "), ("1", "10"), ("猫", "狗"), ("2", "²")])
def test_other_names_are_left_alone(apart: tuple[str, ...]) -> None:
    assert names.require_apart(apart, "photos") == []


def test_a_path_is_utf_8_there_and_back() -> None:
    for path in (b"L\xc3\xb6we", b"caf\xe9", b"plain"):
        assert os.fsencode(names.path(names.text(os.fsdecode(path)))) == path
