"""Which of several forms of an answer a client wants (RFC 9110, section 12.5)."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.errors import Problem

_QUALITY = re.compile(r"[01](\.[0-9]{0,3})?|\.[0-9]{1,3}")
_RANGE = re.compile(r"[\w!#$&^.+-]+/(?:[\w!#$&^.+-]+|\*)|\*/\*|\*")


class _Range(NamedTuple):
    media: str
    quality: float

    @classmethod
    def of(cls, part: str) -> "_Range | None":
        """Of a part of the header; None where it is no media range."""
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
        if not _RANGE.fullmatch(media) or not _QUALITY.fullmatch(quality):
            return None
        return cls(media, min(1.0, float(quality)))

    def specificity(self, offer: str) -> int:
        """3 for the type itself, 2 for all of its kind, 1 for anything, 0 where it is another type."""
        if self.media in ("*/*", "*"):  # the latter is what old Java clients send
            return 1
        kind = offer.partition("/")[0]
        return 3 if self.media == offer else 2 * (self.media == f"{kind}/*")


def choose(headers: Iterable[tuple[bytes, bytes]], offers: Sequence[str]) -> str:
    """The offer that the Accept headers like best; of equals the one they name more exactly, then the first.

    What is no media range is passed over, and a header without any asks for nothing. Raises Problem not_acceptable.
    """
    asked = ",".join(value.decode("latin-1") for name, value in headers if name == b"accept")
    ranges = [found for part in asked.lower().split(",") if (found := _Range.of(part))]
    if not ranges:
        return offers[0]
    liked: dict[str, tuple[float, int]] = {}
    for offer in offers:
        exact, quality = max((each.specificity(offer), each.quality) for each in ranges)  # whatever the others say
        liked[offer] = (quality if exact else 0, exact)
    best = max(offers, key=liked.__getitem__)
    if not liked[best][0]:
        raise Problem("not_acceptable", f"The answer is {' or '.join(offers)}; Accept has neither.")
    return best


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the list has gzip, with no quality or one above 0."""
    for part in accept_encoding.lower().replace(" ", "").split(","):
        coding, _, quality = part.partition(";q=")
        if coding == "gzip":
            return not quality or bool(quality.strip("0."))
    return False
