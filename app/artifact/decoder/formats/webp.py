"""What of a WebP decoding needs: RFC 9649, section 2."""

from collections.abc import Sequence

from app.artifact.decoder.formats.exif import orientation

_PIXELS = (b"VP8 ", b"VP8L")
_PROFILE, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02
_MOST_CHUNKS = 10_000  # each frame of an animation is one
_MOST_GROUPS, _GROUP_BYTES = 2600, 12_000  # of Huffman tables that libwebp writes, and what it takes to read one
_GROUP_PIXELS = 16  # the fewest that have tables of their own


def strip(data: bytes) -> tuple[bytes, int]:
    """The file with its first image, if need be as the only frame of an animation, and its profile, under a header
    that says so: `data` itself where the image is cut; and EXIF's orientation. libwebp refuses what its sizes or flags
    belie."""
    chunks = _chunks(data)
    pixels = next((chunks[kind] for kind in (*_PIXELS, b"ANMF") if kind in chunks), None)
    if pixels is None:
        return data, 1
    turned = orientation(bytes(chunks[b"EXIF"][8:])) if b"EXIF" in chunks else 1
    moving = pixels[:4].tobytes() == b"ANMF"
    said = bytes(chunks.get(b"VP8X", b"")[8:18]).ljust(10, b"\0")
    before = [chunks[kind] for kind in (b"ICCP", *((b"ANIM",) if moving else (b"ALPH",))) if kind in chunks]
    if not before:
        return _file([pixels]), turned
    flags = said[0] & _ALPHA | _ALPHA * (b"ALPH" in chunks) | _ANIMATION * moving
    flags |= _PROFILE * (b"ICCP" in chunks)
    canvas = said[4:] if moving else b"".join((side - 1).to_bytes(3, "little") for side in size(_file([pixels[:40]])))
    head = b"VP8X" + (10).to_bytes(4, "little") + bytes([flags, 0, 0, 0]) + canvas
    return _file([head, *before, pixels]), turned


def is_plain(content: bytes) -> bool:
    """Whether what `strip` gives has no pixels but those of VP8 itself, which take a memory that goes by their number:
    300 kB of VP8L, in which alpha is coded too, take 370 MB for 1 MP, as tables for each 4 x 4 of them."""
    first = content[12:16]
    return first == b"VP8 " or (first == b"VP8X" and not content[20] & (_ALPHA | _ANIMATION) and _is_lossy(content))


def _is_lossy(content: bytes) -> bool:
    place = 30 + 8 + int.from_bytes(content[34:38], "little")  # behind the profile, the one chunk before the pixels
    place += place % 2
    return content[30:34] == b"ICCP" and content[place : place + 4] == b"VP8 "


def profile(content: bytes) -> bytes:
    """The colour profile of what `strip` gives; empty where it has none."""
    return content[38 : 38 + int.from_bytes(content[34:38], "little")] if content[30:34] == b"ICCP" else b""


def tables_bytes(content: bytes) -> int:
    """What the Huffman tables of VP8L take at most, of an image as libwebp writes it."""
    width, height = size(content)
    return 0 if is_plain(content) else _GROUP_BYTES * min(_MOST_GROUPS, width * height // _GROUP_PIXELS)


def size(data: bytes) -> tuple[int, int]:
    """Width and height by the header; sections 2.5 to 2.7."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    return width, height


def _file(chunks: Sequence[bytes | memoryview]) -> bytes:
    return b"".join([b"RIFF", (4 + sum(map(len, chunks))).to_bytes(4, "little"), b"WEBP", *chunks])


def _chunks(data: bytes) -> dict[bytes, memoryview]:
    """The first chunk of each kind that is whole and not empty, with its padding; nothing where the pixels are cut."""
    place, found, view = 12, dict[bytes, memoryview](), memoryview(data)
    for _ in range(_MOST_CHUNKS):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        whole = view[place : place + 8 + length + length % 2]
        if len(whole) < 8 + length or not length:
            if kind in _PIXELS or len(kind) < 4:
                break
        elif kind not in found:
            missing = 8 + length + length % 2 - len(whole)  # the last one's padding
            found[kind] = memoryview(bytes(whole) + bytes(missing)) if missing else whole
        place += 8 + length + length % 2
    return found
