"""What of a GIF decoding needs: GIF89a, sections 15 to 27."""

import re

from app.artifact.decoder.errors import BrokenImage

_BLOCK = re.compile(rb"[\x21\x2c\x3b]")  # extension, image, end
_GRAPHIC_CONTROL, _CONTROL_BYTES = 0xF9, 4
_MOST_PARTS = 65_536  # 10 ms; of 255 bytes they are 16 MB


def strip(data: bytes) -> tuple[bytes, int]:
    """The file with its screen, the last whole graphic control before the first image, and all from there on: `data`
    itself where there is nothing else; and the orientation that a GIF has not, 1. Raises BrokenImage where that has
    too many parts to walk over."""
    flags = data[10] if len(data) > 10 else 0
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    screen, control, parts = data[:place], b"", 0
    while (block := _BLOCK.search(data, place)) and block[0] == b"!":
        start = place = block.end() + 1
        parts += 1
        while place < len(data) and data[place]:
            place, parts = place + 1 + data[place], parts + 1
            if parts > _MOST_PARTS:
                break
        if parts > _MOST_PARTS:
            raise BrokenImage(f"the GIF file has more than {_MOST_PARTS} parts before its pixels")
        if (
            data[block.end() : start] == bytes([_GRAPHIC_CONTROL])
            and start < len(data)
            and data[start] >= _CONTROL_BYTES
        ):
            control = b"\x21\xf9\x04" + data[start + 1 : start + 1 + _CONTROL_BYTES] + b"\0"
        place += 1
    pixels = block.start() if block else len(data)
    whole = len(screen) + len(control) == pixels
    return data if whole else b"".join([screen, control, memoryview(data)[pixels:]]), 1
