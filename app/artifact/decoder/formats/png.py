"""What of a PNG decoding needs, and how deep its values are: PNG (third edition), sections 4 to 11."""

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

from app.artifact.decoder.errors import BrokenImage
from app.artifact.decoder.formats.exif import orientation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_KNOWN = re.compile(rb"PLTE|tRNS|iCCP|IDAT|IEND")
_MOST_CHUNKS = 20_000  # 0.1 s, of which Pillow needs most; 10 MB are 1,200 of the usual 8 kB
_MOST_LOST = 2**20  # bytes in which the next chunk is looked for; 10 MB would hold the interpreter for 0.2 s
_QUICK_CHUNKS, _COSTLY = 64, frozenset({b"zTXt", b"iTXt", b"iCCP", b"eXIf"})
_MOST_PROFILE_BYTES = 2**20  # as many as Pillow inflates
_GREY, _COLOUR, _PALETTE = 0, 2, 3  # colour types
_GREY_STEPS = {1: 1, 2: 85, 4: 17}  # of few bits Pillow scales to 8 the grey, but not the grey that is clear


Chunk = tuple[bytes, int, int]  # kind, start at its length, end behind its checksum


def strip(data: bytes) -> tuple[bytes, int]:
    """The file with its pixels and colours, and what is whole of transparency and colour profile: `data` itself where
    it has nothing else; and EXIF's orientation. Raises BrokenImage where it has too many chunks to walk over."""
    found = list(chunks(data))
    if _is_plain(data, found):
        return data, 1
    first = next((at for at, (kind, _, _) in enumerate(found) if kind == b"IDAT"), len(found))
    before = found[:first]
    head = [data[start:end] for kind, start, end in before if kind in (b"IHDR", b"PLTE")]
    if not head or head[0][4:8] != b"IHDR" or len(head[0]) != 25:
        raise BrokenImage("the PNG file does not begin with its header")
    if head[0][17] != _PALETTE:
        head = head[:1]  # with colours of their own a palette is a suggestion
    elif any(_is_odd(each[:4]) for each in head[1:]):
        raise BrokenImage("the PNG file's palette is no list of colours")
    profile = _whole(data, before, b"iCCP")
    kept = {
        b"iCCP": profile if _is_profile(profile) else b"",
        b"tRNS": _clear(_whole(data, before, b"tRNS"), head),
        b"sBIT": _whole(data, before, b"sBIT"),
    }
    made = [
        len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
        for kind, content in kept.items()
        if content
    ]
    exif = _whole(data, found, b"eXIf")  # also behind the pixels
    return b"".join([_SIGNATURE, *head, *made, *_joined(data, found[first:])]), orientation(exif)


def is_quick(data: bytes) -> bool:
    """Whether it is a PNG of few chunks, none of which takes a time that its size does not tell."""
    kinds = [kind for kind, _, _ in islice(chunks(data), _QUICK_CHUNKS + 1)] if data.startswith(_SIGNATURE) else []
    return data.startswith(_SIGNATURE) and len(kinds) <= _QUICK_CHUNKS and _COSTLY.isdisjoint(kinds)


def _is_plain(data: bytes, found: list[Chunk]) -> bool:
    """Whether it is nothing but pixels."""
    for kind, start, _ in found:
        if kind not in _PIXELS or (kind == b"PLTE" and _is_odd(data[start : start + 4])):
            return False
    kind, _, end = found[-1] if found else (b"", 0, len(_SIGNATURE))
    return kind == b"IEND" or end + 4 >= len(data)


def _is_odd(length: bytes) -> bool:
    """Of a palette: there is no colour, or one is cut; Pillow makes them black."""
    return not int.from_bytes(length) or int.from_bytes(length) % 3 != 0


def significant_bits(data: bytes) -> int:
    """How many bits a value of a grey PNG is said to have (sBIT); 0 where nothing is said."""
    said = _whole(data, list(chunks(data)), b"sBIT")
    return said[0] if said and said[0] <= data[24] else 0


def chunks(data: bytes) -> Iterator[Chunk]:
    """All chunks, in their order. Where a length leads nowhere, the walk goes on at the next chunk that is known.
    Raises BrokenImage where they are too many to walk over."""
    place = len(_SIGNATURE)
    for _ in range(_MOST_CHUNKS + 1):
        kind = data[place + 4 : place + 8]
        if len(kind) < 4:
            return
        end = place + 12 + int.from_bytes(data[place : place + 4])
        follows = data[end + 4 : end + 8]  # a chunk can begin there, or nothing does
        if kind not in _PIXELS and end != len(data) and not (len(follows) == 4 and follows.isalpha()):
            known = _KNOWN.search(data, place + 8, min(len(data), place + _MOST_LOST))
            end = known.start() - 4 if known else len(data)
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end
    raise BrokenImage(f"the PNG file has more than {_MOST_CHUNKS} chunks")


def _whole(data: bytes, found: list[Chunk], kind: bytes) -> bytes:
    """The content of the first chunk of a kind whose checksum is right."""
    for each, start, end in found:
        if each == kind and zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end]):
            return data[start + 8 : end - 4]
    return b""


def _is_profile(content: bytes) -> bool:
    """Whether it is a name, the method 0 and what inflates to a profile of bounded size."""
    name, _, packed = content[:82].partition(b"\0")
    if not (name and packed[:1] == b"\0"):
        return False
    inflate = zlib.decompressobj()
    try:
        inflate.decompress(content[len(name) + 2 :], _MOST_PROFILE_BYTES)
    except zlib.error:
        return False
    return inflate.eof


def _clear(content: bytes, head: list[bytes]) -> bytes:
    """What is clear, as Pillow takes it; nothing where it does not fit to the colours, as libpng has it."""
    bits, colour = head[0][16:18]
    if colour == _PALETTE:
        colours = sum(len(chunk) - 12 for chunk in head[1:2]) // 3
        return content if len(content) <= colours else b""
    if len(content) != {_GREY: 2, _COLOUR: 6}.get(colour):
        return b""
    values = [value & (2**bits - 1) for (value,) in struct.iter_unpack(">H", content)]
    step = _GREY_STEPS.get(bits, 1) if colour == _GREY else 1
    return b"".join((value * step).to_bytes(2) for value in values)


def _joined(data: bytes, found: list[Chunk]) -> list[memoryview]:
    """The pixels' chunks, those that follow one another in one piece."""
    spans: list[list[int]] = []
    for kind, start, end in found:
        if kind not in (b"IDAT", b"IEND"):
            continue
        if spans and spans[-1][1] == start:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return [memoryview(data)[start:end] for start, end in spans]
