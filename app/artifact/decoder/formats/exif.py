"""EXIF's orientation, and nothing else of it: Exif 2.3, section 4.6."""

import struct

_ORIENTATION = 0x0112
_WHOLE = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L"}  # a type's whole numbers; of bytes there is no orientation
_MOST_TAGS = 1000  # makers write 100; a directory of 65,535 tags takes 0.2 s


def orientation(exif: bytes) -> int:
    """1..8. A damaged block, or one without it, does not make a good image bad: 1.

    Pillow reads all tags with all their values, 65,535 of which can each be the whole file.
    """
    exif = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2], "")
    if not order or exif[2:4] not in (b"*\0", b"\0*"):
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}L", exif, 4)
        (many,) = struct.unpack_from(f"{order}H", exif, place)
        for at in range(place + 2, place + 2 + 12 * min(many, _MOST_TAGS), 12):
            tag, kind, count = struct.unpack_from(f"{order}HHL", exif, at)
            if tag == _ORIENTATION and kind in _WHOLE and count:
                form = struct.Struct(order + _WHOLE[kind])
                where = at + 8 if count * form.size <= 4 else struct.unpack_from(f"{order}L", exif, at + 8)[0]
                value = int(form.unpack_from(exif, where)[0])
                return value if 1 <= value <= 8 else 1
    except struct.error:  # it ends before
        pass
    return 1
