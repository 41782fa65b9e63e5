"""What the bytes of an image file announce, before any library looks at them."""

import re
import struct

from app.artifact.decoder import unsupported

# What a file is, by its first bytes; the values are Pillow's names.
_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}
ACCEPTED = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF")
_WANTED = f"accepted: {', '.join(ACCEPTED)}"
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# Each decodes every pixel again, 40 ms at 64 MP for 95 bytes of file: 10 MB of them would take an hour.
_MAX_SCANS = 100
_QUICK_PARTS = 64
_QUICK_HEAD_BYTES = 4096
# JFIF, quantisation tables, Huffman tables, restart interval, comment.
_PLAIN = frozenset({0xFFE0, 0xFFDB, 0xFFC4, 0xFFDD, 0xFFFE})
_SEGMENT = struct.Struct(">HH")  # marker, length
_FRAME = struct.Struct(">BHHB")  # bits, height, width, components
_PLAIN_MODES = {1: "L", 3: "RGB"}
PlainJpeg = tuple[str, int, int]  # Pillow's mode, width, height
_COSTLY = frozenset({b"zTXt", b"iTXt", b"iCCP", b"eXIf"})


class ImageError(ValueError):
    """The bytes cannot become pixels; the message is one sentence for the person who sent them."""


class UnsupportedImage(ImageError):
    """Not one of the accepted file types."""


class BrokenImage(ImageError):
    """An accepted file type, but damaged or of a kind that has no defined 8-bit meaning."""


def kind_of(data: bytes) -> str:
    """Pillow's name of the file type. Raises UnsupportedImage."""
    for signature, name in _SIGNATURES.items():
        # "BM" alone is too common a beginning: the size of a bitmap's second header has few values
        if data.startswith(signature) and (name != "BMP" or data[14:15] in b"\x0c\x10\x28\x34\x38\x40\x6c\x7c"):
            if name == "TIFF" and (raw := unsupported.raw_in_tiff(data)):
                raise UnsupportedImage(f"the file is {raw}; {_WANTED}")
            if name == "BMP" and len(data) > int.from_bytes(data[2:6], "little"):
                refuse_text(data)  # its pixels are only moved by it
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnsupportedImage(f"{unsupported.said_of(data)}; {_WANTED}")


def refuse_text(data: bytes) -> None:
    """To be called with a broken file. Raises UnsupportedImage where it is one because it was text on its way."""
    if unsupported.was_text(data):
        raise UnsupportedImage(f"the file is {unsupported.AS_TEXT}; {_WANTED}")


def scans(data: bytes) -> list[int]:
    """How many components each scan of a JPEG has. Raises BrokenImage where they take too long."""
    found = _scans(data)
    if len(found) > _MAX_SCANS:
        raise BrokenImage(f"the JPEG has more than {_MAX_SCANS} scans; a progressive one needs about ten")
    return found


def _scans(data: bytes) -> list[int]:
    """Markers before the first scan have a length and are stepped over, so that a thumbnail's scans do not count."""
    if data.count(_SCAN) == 1:  # the only one, wherever it is: no need to walk
        return _components(data, data.find(_SCAN))
    place = 2
    found: list[int] = []
    while len(found) <= _MAX_SCANS and (marker := _MARKER.search(data, place)):
        place, code = marker.end(), data[marker.end() - 1]
        if code == 0xD9:  # end of the image
            break
        if code == 0xDA:
            found += _components(data, marker.start())
        place += int.from_bytes(data[place : place + 2])
    return found


def _components(data: bytes, scan: int) -> list[int]:
    return [*data[scan + 4 : scan + 5]] or [0]  # where the file ends there, none


def webp_pixels(data: bytes) -> int:
    """Width times height by a WebP's header."""
    width, height = webp_size(data)
    return width * height


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by a WebP's header; RFC 9649, sections 2.5 to 2.7."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    return width, height


def jpeg_head(data: bytes, most_segments: int) -> int | None:
    """The bytes before a JPEG's first scan; None where they are more segments than that."""
    place = 2
    for _ in range(most_segments + 1):
        marker = _MARKER.search(data, place)
        if not marker or data[marker.end() - 1] in (0xDA, 0xD9):
            return marker.start() if marker else len(data)
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return None


def plain_jpeg(data: bytes) -> PlainJpeg | None:
    """Mode, width and height of a baseline JPEG in grey or YCbCr with nothing in its head that matters to anybody but
    the decoder: no EXIF, no Adobe transform. None for any other. ITU-T T.81, annex B."""
    found, place = None, 2
    try:
        for _ in range(_QUICK_PARTS):
            marker, length = _SEGMENT.unpack_from(data, place)
            if marker == 0xFFDA:
                break
            if marker == 0xFFC0 and not found:
                found = _plain_frame(*_FRAME.unpack_from(data, place + 4))
                if not found:
                    return None
            elif marker not in _PLAIN:
                return None
            place += 2 + length
        else:
            return None
        components = data[place + 4]
    except (struct.error, IndexError):  # the file ends in its head
        return None
    # Of a scan that has not every component libjpeg keeps the whole image's coefficients; after one that has, it
    # refuses any other, and to look for them takes half a millisecond for 1.5 MB.
    whole = found and _PLAIN_MODES.get(components) == found[0]
    return found if whole and place <= _QUICK_HEAD_BYTES else None


def _plain_frame(bits: int, height: int, width: int, components: int) -> PlainJpeg | None:
    mode = _PLAIN_MODES.get(components)
    return (mode, width, height) if bits == 8 and mode and width and height else None


def png_chunks(data: bytes) -> list[bytes]:
    """The types of a PNG's chunks, in their order."""
    place, types = 8, []
    while len(kind := data[place + 4 : place + 8]) == 4:
        types.append(kind)
        place += 12 + int.from_bytes(data[place : place + 4])
    return types


def is_quick(data: bytes) -> bool:
    """Whether the time to decode a small file goes by its pixels: a plain JPEG or PNG, without thousands of parts,
    compressed text, colour profile or large EXIF, of which 64 kB can take a third of a second; the other types have no
    such promise."""
    if data.startswith(b"\xff\xd8\xff"):
        head = jpeg_head(data, _QUICK_PARTS)
        small = head is not None and head <= _QUICK_HEAD_BYTES and data.count(_SCAN) <= 1
        return small and data.find(b"ICC_PROFILE", 0, head) < 0
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    chunks = png_chunks(data)
    return len(chunks) <= _QUICK_PARTS and _COSTLY.isdisjoint(chunks)
