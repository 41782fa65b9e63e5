"""How an artifact is made."""

import difflib
from collections.abc import Iterable

import app as app  # before all else: it switches ONNX Runtime's telemetry off

_KNOWN = 40  # names in a hint


class TrainingError(Exception):
    """Something the user can mend: what happened, with the value, and what to type next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Refused(TrainingError):
    """A gate said no; exit code 3."""


class Stopped(Exception):
    """The user asked to stop; the current epoch is given up, the run stays valid. Exit code 130."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint for a name that is not known: the one that was probably meant, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    more = f", and {len(names) - _KNOWN} more" if len(names) > _KNOWN else ""
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(names[:_KNOWN])}{more}"
