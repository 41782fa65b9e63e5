"""What of a WebP decoding needs: RFC 9649, section 2."""

_PIXELS = (b"VP8 ", b"VP8L")
_PROFILE, _ALPHA, _EXIF, _ANIMATION = 0x20, 0x10, 0x08, 0x02
_MOST_CHUNKS = 10_000  # each frame of an animation is one


def strip(data: bytes) -> bytes:
    """The file with its first image, if need be as the only frame of an animation, its profile and EXIF, under a
    header that says so: `data` itself where the image is cut. libwebp refuses what its sizes or flags belie."""
    chunks = _chunks(data)
    pixels = next((chunks[kind] for kind in (*_PIXELS, b"ANMF") if kind in chunks), b"")
    if not pixels:
        return data
    moving = pixels[:4] == b"ANMF"
    said = chunks.get(b"VP8X", b"")[8:18].ljust(10, b"\0")
    before = [chunks[kind] for kind in (b"ICCP", *((b"ANIM",) if moving else (b"ALPH",))) if kind in chunks]
    after = [chunks[b"EXIF"]] if b"EXIF" in chunks else []
    if not before and not after:
        return _file([pixels])
    flags = said[0] & _ALPHA | _ALPHA * (b"ALPH" in chunks) | _ANIMATION * moving
    flags |= _PROFILE * (b"ICCP" in chunks) | _EXIF * bool(after)
    canvas = said[4:] if moving else b"".join((side - 1).to_bytes(3, "little") for side in size(_file([pixels])))
    head = b"VP8X" + (10).to_bytes(4, "little") + bytes([flags, 0, 0, 0]) + canvas
    return _file([head, *before, pixels, *after])


def size(data: bytes) -> tuple[int, int]:
    """Width and height by the header; sections 2.5 to 2.7."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        sides = int.from_bytes(data[21:25], "little")
        return 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF)
    width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    return width, height


def _file(chunks: list[bytes]) -> bytes:
    return b"".join([b"RIFF", (4 + sum(map(len, chunks))).to_bytes(4, "little"), b"WEBP", *chunks])


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each kind that is whole and not empty, with its padding; nothing where the pixels are cut."""
    place, found = 12, dict[bytes, bytes]()
    for _ in range(_MOST_CHUNKS):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        whole = data[place : place + 8 + length + length % 2]
        if len(whole) < 8 + length or not length:
            if kind in _PIXELS or len(kind) < 4:
                break
        elif kind not in found:
            found[kind] = whole + b"\0" * (8 + length + length % 2 - len(whole))
        place += 8 + length + length % 2
    return found
