"""Names as people wrote them: paths as UTF-8 whatever the locale, and class names that can be told apart."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable

from training.errors import TrainingError


def text(path: str) -> str:
    """A path as Python holds it under this locale -> UTF-8; bytes that are none stay as lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def path(text: str) -> str:
    """The way back: what this locale's system calls take. Runs record the text, and are read under any locale."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def label(name: str) -> str:
    """The label of a class folder: composed, because a Mac's copy of the folder is called the same, decomposed."""
    return unicodedata.normalize("NFC", name)


def require_writable(name: str, source: str) -> None:
    """A label stands in JSON, tables, figures, pages and terminals: text, on one line. Raises TrainingError."""
    categories = {unicodedata.category(character) for character in name}
    wrong = "it is not UTF-8" if "Cs" in categories else "it holds a line end, a tab or a control character"
    if categories & {"Cs", "Cc", "Zl", "Zp"}:  # a lone surrogate is how Python holds a byte that is no UTF-8
        raise TrainingError(f"{name!r} of {source} is no name for a class: {wrong}", "rename the folder")


def require_apart(names: Iterable[str], source: str) -> list[str]:
    """What is to be said of folders whose names differ only in letter case and the like, of which people make one class
    by mistake, and two on purpose (a and A). Raises TrainingError for those that nobody can tell apart."""
    shown = _alike(names, _shown)
    folded = _alike(names, lambda name: re.sub(r"[\s_-]+", " ", _shown(name)).casefold().strip() or name)
    if shown:
        alike = " and ".join(ascii(name) for name in shown[0])
        raise TrainingError(
            f"class folders of {source} look alike: {alike}", "move the images of one into the other, or rename it"
        )
    quoted = [" and ".join(f'"{name}"' for name in twins) for twins in folded]
    return [f"classes {twins} differ only in upper and lower case, spaces or hyphens" for twins in quoted]


def _alike(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _shown(name: str) -> str:
    """Without what leaves no trace on paper: composition, invisible characters, spaces at the ends and doubled ones."""
    visible = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")
    return " ".join(visible.split()) or name
