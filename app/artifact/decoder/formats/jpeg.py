"""What of a JPEG decoding needs, what it costs, and whether its pixels are all there: ITU-T T.81, annex B."""

import re
import struct
import sys
from collections.abc import Iterator

from app.artifact.decoder.errors import BrokenImage
from app.artifact.decoder.formats.exif import orientation
from app.artifact.decoder.geometry import Size

START, END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # those without a length are passed over: TEM, RST, SOI
_SEGMENT = struct.Struct(">BBH")  # 0xFF, marker, length
_FRAME = struct.Struct(">BHHB")  # bits, height, width, components
_SOF, _SOS, _EOI, _PROFILE = 0xC0, 0xDA, 0xD9, 0xE2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1}
_PIXELS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # and tables, lines, restart interval
# What libjpeg knows of the others, with the bytes from which on it believes them; EXIF's orientation we read ourselves.
_EXIF = 0xE1
_KNOWN = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12), _EXIF: (b"Exif\0\0", 14), _PROFILE: (b"ICC_PROFILE\0", 15)}
_PART = struct.Struct(">HH")  # marker, length
# JFIF, quantisation, Huffman tables, restart interval, comment
_PLAIN = frozenset({0xFFE0, 0xFFDB, 0xFFC4, 0xFFDD, 0xFFFE})
_PLAIN_MODES = {1: "L", 3: "RGB"}
_QUICK_SEGMENTS, _QUICK_HEAD_BYTES = 64, 4096
_MOST_SEGMENTS = 1000  # 160 large ones are 10 MB
_TABLES, _MOST_TABLE_BYTES = frozenset({0xC4, 0xDB}), 65_536  # eight of each kind are 4 kB
_MOST_FILLED = 65_536  # bytes between two segments; a search of 10 MB holds the interpreter for 0.2 s
# Each decodes every pixel again, 40 ms at 64 MP for 95 bytes of file: 10 MB of them would take an hour.
_MOST_SCANS = 100
_COEFFICIENTS = 64
# Noise, which a decoder takes for pixels where it lacks some, and passes over where it does not.
_NOISE = bytes(value * 89 % 255 for value in range(1, 2001))
OTHER_END = b"".join(_NOISE + bytes([0xFF, 0xD0 + at]) for at in range(8)) + _NOISE + END


def segments(data: bytes, most_filled: int = sys.maxsize) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment; what stands between two of them is passed over, as libjpeg does, unless
    it is longer than `most_filled` bytes."""
    start, last = len(START), len(data) - _SEGMENT.size
    while True:
        if start <= last:
            first, code, length = _SEGMENT.unpack_from(data, start)
            if first == 0xFF and 0xBF < code < 0xFF and not 0xD0 <= code <= 0xD8:  # it follows at once, as usual
                end = start + 2 + (length if length > 2 else 2)
                yield code, start, end
                start = end
                continue
        marker = _MARKER.search(data, start, min(len(data), start + most_filled))
        if not marker:
            return
        end = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
        yield data[marker.end() - 1], marker.start(), end
        start = end


def plain(data: bytes) -> tuple[str, int, int] | None:
    """Mode, width and height of a whole baseline JPEG in grey or YCbCr with nothing in its head that matters to anybody
    but the decoder: no EXIF, no Adobe transform. None for any other.

    By a walk of its own, which ends at anything odd: `segments` takes three times as long, 0.03 ms of an answer's 0.6.
    """
    found, place, components = None, len(START), 0
    try:
        for _ in range(_QUICK_SEGMENTS if data.startswith(START) else 0):
            marker, length = _PART.unpack_from(data, place)
            if marker == 0xFFDA:
                # Of a scan that has not every component libjpeg keeps the whole image's coefficients; after one that
                # has, it refuses any other. Without its end a file is decoded three times.
                whole = data[place + 4] == components and data.rfind(END, place + 2 + length) >= 0
                return found if whole and place <= _QUICK_HEAD_BYTES else None
            if marker in _PLAIN:
                place += 2 + length
                continue
            if marker != 0xFFC0 or found or length < 8:
                return None
            bits, height, width, components = _FRAME.unpack_from(data, place + 4)
            if bits != 8 or components not in _PLAIN_MODES or not width or not height:
                return None
            found = _PLAIN_MODES[components], width, height
            place += 2 + length
    except (struct.error, IndexError):  # it ends in its head
        pass
    return None


def is_quick(data: bytes) -> bool:
    """Whether it is a JPEG of one scan, with few and short segments before it and no colour profile."""
    if not data.startswith(b"\xff\xd8\xff") or data.count(b"\xff\xda") > 1:
        return False
    head = len(data)
    for count, (code, start, _) in enumerate(segments(data)):
        if code in (_SOS, _EOI):
            head = start
            break
        if count == _QUICK_SEGMENTS:
            return False
    return head <= _QUICK_HEAD_BYTES and data.find(b"ICC_PROFILE", 0, head) < 0


def divisor(size: Size, most: float) -> int:
    """What libjpeg can divide sides by, up to `most`: 1, 2, 4 or 8."""
    return next((d for d in (8, 4, 2) if min(most, *size) >= d), 1)


def strip(data: bytes) -> tuple[bytes, int]:
    """The file with the segments that matter to its pixels, and all from the first scan on: `data` itself where there
    are no others; and EXIF's orientation. Raises BrokenImage where they are more, or larger, than any image has."""
    kept, place, exif, tables = [START], len(START), b"", 0
    known: set[int] = set()
    for count, (code, start, end) in enumerate(segments(data, _MOST_FILLED)):
        if count > _MOST_SEGMENTS:
            raise BrokenImage(f"the JPEG file has more than {_MOST_SEGMENTS} segments before its pixels")
        place = start
        if code in (_SOS, _EOI):
            break
        name, least = _KNOWN.get(code, (b"", 0))
        # of a profile there are as many as it takes, of the others the first counts
        first = name and (code not in known or code == _PROFILE)
        if first and min(end, len(data)) - start >= 4 + least and data.startswith(name, start + 4):
            known.add(code)
            if code == _EXIF:
                exif = data[start + 4 : end]
            else:
                kept.append(data[start:end])
        elif code in _PIXELS:
            kept.append(data[start:end])
            tables += (end - start) * (code in _TABLES)
            if tables > _MOST_TABLE_BYTES:
                raise BrokenImage(f"the JPEG file has more than {_MOST_TABLE_BYTES} bytes of tables")
        place = end
    else:
        if len(data) - place > _MOST_FILLED:
            raise BrokenImage(f"the JPEG file has more than {_MOST_FILLED} bytes between its segments")
    turned = orientation(exif)
    return data if sum(map(len, kept)) == place else b"".join([*kept, memoryview(data)[place:]]), turned


def scans(data: bytes) -> list[int]:
    """How many components each scan has, but for those that libjpeg refuses: behind one of a sequential JPEG that has
    every component. Raises BrokenImage where they take too long."""
    found, frame = list[int](), (0, 0)
    for count, (code, start, _) in enumerate(segments(data)):
        if code == _EOI:
            break
        if code in _FRAMES and frame == (0, 0):
            frame = code, int.from_bytes(data[start + 9 : start + 10])
        if code == _SOS:
            found.append(int.from_bytes(data[start + 4 : start + 5]))  # where the file ends there, none
            if frame[0] in _SEQUENTIAL and found == [frame[1]]:
                break
        if len(found) > _MOST_SCANS:
            raise BrokenImage(f"the JPEG has more than {_MOST_SCANS} scans; a progressive one needs about ten")
        if count > 2 * _MOST_SEGMENTS:
            raise BrokenImage(f"the JPEG file has more than {2 * _MOST_SEGMENTS} segments")
    return found


def is_ended(data: bytes) -> bool:
    """Whether there is an end behind the first scan."""
    return data.rfind(END, next((end for code, _, end in segments(data) if code == _SOS), len(data))) >= 0


def has_all_scans(data: bytes) -> bool:
    """Whether its scans bring every coefficient of every component, to the last bit."""
    components, missing = 0, dict[tuple[int, int], int]()
    for code, start, end in segments(data):
        if code in _FRAMES and not components:
            components = data[start + 9]
        if code == _SOS and end <= len(data):
            first, last, bits = data[end - 3 : end]
            for component in data[start + 5 : end - 3 : 2]:
                missing |= dict.fromkeys(((component, at) for at in range(first, last + 1)), bits & 15)
    return len(missing) == components * _COEFFICIENTS and not any(missing.values())
