"""What of a JPEG decoding needs, and whether its pixels are all there: ITU-T T.81, annex B."""

import re
from collections.abc import Iterator

from app.artifact.decoder.header import BrokenImage

START, END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those without a length are passed over: TEM, RST, SOI
_SOS, _EOI, _PROFILE = 0xDA, 0xD9, 0xE2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PIXELS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # and tables, lines, restart interval
# What libjpeg knows of the others, with the bytes from which on it believes them; EXIF has the orientation.
_KNOWN = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12), 0xE1: (b"Exif\0\0", 14), _PROFILE: (b"ICC_PROFILE\0", 15)}
_MOST_SEGMENTS = 1000  # 160 large ones are 10 MB
_COEFFICIENTS = 64
# Noise, which a decoder takes for pixels where it lacks some, and passes over where it does not.
_NOISE = bytes(value * 89 % 255 for value in range(1, 2001))
OTHER_END = b"".join(_NOISE + bytes([0xFF, 0xD0 + at]) for at in range(8)) + _NOISE + END


def needed(data: bytes) -> bytes:
    """The file with the segments that matter to its pixels, and all from the first scan on: `data` itself where there
    are no others. Raises BrokenImage where they are more than any image has."""
    kept, place = [START], len(START)
    known: set[int] = set()
    for count, (code, start, end) in enumerate(_segments(data)):
        if count > _MOST_SEGMENTS:
            raise BrokenImage(f"the JPEG file has more than {_MOST_SEGMENTS} segments before its pixels")
        place = start
        if code in (_SOS, _EOI):
            break
        if code in _PIXELS or _is_known(code, data[start + 4 : end], known):
            kept.append(data[start:end])
        place = end
    return data if sum(map(len, kept)) == place else b"".join([*kept, memoryview(data)[place:]])


def is_ended(data: bytes) -> bool:
    """Whether there is an end behind the first scan."""
    scan = next((end for code, _, end in _segments(data) if code == _SOS), len(data))
    return data.find(END, scan) >= 0


def has_all_scans(data: bytes) -> bool:
    """Whether its scans bring every coefficient of every component, to the last bit."""
    components, missing = 0, dict[tuple[int, int], int]()
    for code, start, end in _segments(data):
        if code in _FRAMES and not components:
            components = data[start + 9]
        if code == _SOS and end <= len(data):
            first, last, bits = data[end - 3 : end]
            for component in data[start + 5 : end - 3 : 2]:
                missing |= dict.fromkeys(((component, at) for at in range(first, last + 1)), bits & 15)
    return len(missing) == components * _COEFFICIENTS and not any(missing.values())


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment; whatever stands between two of them is passed over, as libjpeg does."""
    place = len(START)
    while marker := _MARKER.search(data, place):
        place = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
        yield data[marker.end() - 1], marker.start(), place


def _is_known(code: int, content: bytes, known: set[int]) -> bool:
    name, least = _KNOWN.get(code, (b"", 1))
    if not content.startswith(name) or len(content) < least or (code in known and code != _PROFILE):
        return False  # of a profile there are as many as it takes, of the others the first counts
    known.add(code)
    return bool(name)
