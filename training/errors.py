"""How an artifact is made."""

import difflib
import signal
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


class Stopped(BaseException):
    """Somebody asked to stop, which no `except Exception` on the way may take for an error; exit code 128 + the
    signal's number: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, message: str = "stopped", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


def nearest(word: str, known: Iterable[str], unlisted: Iterable[str] = ()) -> str:
    """The hint for a name that is not known: the one that was probably meant, or all of `known`.

    `unlisted` may be meant too, but are too many to list. Of torchvision/resnet18, resnet18 is what is compared.
    """
    names = list(known)
    bare = {name.rpartition("/")[2]: name for name in (*names, *unlisted)}
    close = difflib.get_close_matches(word.rpartition("/")[2], bare, n=1, cutoff=0.5)
    more = f", and {len(names) - _KNOWN} more" if len(names) > _KNOWN else ""
    return f'did you mean "{bare[close[0]]}"?' if close else f"known: {', '.join(names[:_KNOWN])}{more}"


def reason(error: Exception) -> str:
    """What an error says, without the number that an OSError has."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
