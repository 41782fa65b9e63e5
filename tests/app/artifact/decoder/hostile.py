"""Small files whose cost goes by rows, parts or compressed metadata, and not by width x height; sizes by a seed.

Each family is what some decoder once paid seconds or hundreds of MB for. `KINDS` has them by name.
"""

import random
import struct
import zlib
from collections.abc import Callable

from tests.app.artifact.decoder import vp8l
from tests.images import chunk, drawing, encode, png

Make = Callable[[random.Random, int], bytes]


def _times(part: bytes, size: int) -> bytes:
    return part * (size // len(part))


def _small_png(parts: bytes, behind: bytes = b"") -> bytes:
    file = png(8, 8, 8, 2, bytes(25) * 8, parts)
    return file[:-12] + behind + file[-12:]


def tall_png(dice: random.Random, size: int) -> bytes:
    """A pixel wide: Pillow takes 8 bytes for each row of each image, and fills up rows to 4 bytes."""
    height, depth, colour = 4 * dice.randrange(size, 2 * size), dice.choice((1, 8)), dice.choice((0, 3))
    extra = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0\xff") if colour == 3 else b""
    return png(1, height, depth, colour, bytes(2) * height, extra)


def wide_png(dice: random.Random, size: int) -> bytes:
    return png(dice.randrange(size, 2 * size), 1, 8, 0, bytes(2 * size + 1))


def deep_png(dice: random.Random, size: int) -> bytes:
    """Rows of 16 bits, dark: they are looked at twice."""
    height = dice.randrange(size // 2, size)
    return png(1, height, 16, dice.choice((0, 2)), bytes(7) * height)


def png_profiles(dice: random.Random, size: int) -> bytes:
    return _small_png(_times(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(dice.randrange(10**6)), 9)), size))


def png_texts(dice: random.Random, size: int) -> bytes:
    kind = dice.choice((b"zTXt", b"iTXt"))
    head = b"a\0\0" if kind == b"zTXt" else b"a\0\1\0\0\0"
    return _small_png(_times(chunk(kind, head + zlib.compress(bytes(10**6), 9)[:-4] + bytes(4)), size))


def png_chunks(dice: random.Random, size: int) -> bytes:
    kind = dice.choice((b"tEXt", b"prVt", b"IDAT", b"PLTE", b"sPLT", b"acTL"))
    return _small_png(_times(chunk(kind, bytes(dice.choice((0, 3)))), size))


def png_lost(dice: random.Random, size: int) -> bytes:
    """A length that leads nowhere: the next chunk is looked for."""
    return _small_png(struct.pack(">I", 2**31 + dice.randrange(99)) + b"prVt" + _times(b"IDA", size))


def png_exif(dice: random.Random, size: int) -> bytes:
    return _small_png(chunk(b"eXIf", _exif(dice, size)))


def _exif(dice: random.Random, size: int) -> bytes:
    """A directory each of whose values is nearly the whole file."""
    many = min(65_535, size // 24)
    long = size - 12 * many
    entries = b"".join(struct.pack("<HHII", 1 + at, 7, long - at % 7, 8) for at in range(many))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", many) + entries + bytes(4 + long)


def jpeg_exif(dice: random.Random, _size: int) -> bytes:
    exif = b"Exif\0\0" + _exif(dice, 60_000)
    return _with(encode(drawing(64, 64), "JPEG"), b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)


def _with(jpeg: bytes, segments: bytes) -> bytes:
    return jpeg[:2] + segments + jpeg[2:]


def jpeg_fill(dice: random.Random, size: int) -> bytes:
    return _with(encode(drawing(64, 64), "JPEG"), _times(b"\xff" if dice.random() < 0.9 else b"\xff\1", 3 * size))


def jpeg_tables(dice: random.Random, size: int) -> bytes:
    """Quantisation tables over and over, in few segments."""
    tables = _times(bytes([dice.randrange(4)]) + bytes(range(1, 65)), 65_500)
    return _with(
        encode(drawing(64, 64), "JPEG"), _times(b"\xff\xdb" + struct.pack(">H", len(tables) + 2) + tables, size)
    )


def jpeg_segments(dice: random.Random, size: int) -> bytes:
    """Segments without content between the scans."""
    file = encode(drawing(64, 64), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:last] + _times(b"\xff" + dice.choice((b"\xfe", b"\xe5", b"\xdd")) + b"\0\2", size) + file[last:]


def jpeg_scans(dice: random.Random, size: int) -> bytes:
    file = encode(drawing(64, 64).resize((1000, size // 1000)), "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last:-2] * dice.randrange(20, 95) + file[-2:]


def jpeg_narrow(dice: random.Random, _size: int) -> bytes:
    """Coefficients are kept of whole blocks."""
    sides = dice.choice(((1, 65_000), (65_000, 1)))
    return encode(drawing(64, 64).resize(sides), "JPEG", progressive=dice.random() < 0.8, subsampling=2)


def profile(dice: random.Random, size: int) -> bytes:
    """Its colours go through thousands of matrices (multiProcessElementsType, ICC.1:2010, 10.14)."""
    stage = b"matf" + struct.pack(">IHH", 0, 3, 3) + struct.pack(">12f", 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    count = size // 80
    places = b"".join(struct.pack(">II", 16 + 8 * count + len(stage) * at, len(stage)) for at in range(count))
    elements = b"mpet" + struct.pack(">IHHI", 0, 3, 3, count) + places + stage * count
    curve = b"curv" + struct.pack(">II", 0, 0)
    white = b"XYZ " + struct.pack(">4I", 0, 63190, 65536, 54061)
    tags = [(name, white) for name in (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ")]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    tags += [(b"D2B0", elements), (b"A2B0", elements), (b"B2D0", elements), (b"desc", b"text" + bytes(8))]
    place, table, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags:
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(">II", 132 + len(table) + len(body), 0) + b"\x04\x30\0\0mntrRGB XYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3I", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def endless_profile(dice: random.Random, size: int) -> bytes:
    kind = dice.choice(("PNG", "JPEG", "WEBP", "TIFF"))
    return encode(drawing(16, 16), kind, icc_profile=profile(dice, min(size, 300_000)))


def tiff(tags: dict[int, tuple[int, list[int] | bytes]], data: bytes) -> bytes:
    """Of tags, each with its type and values; `data` is at 8."""
    entries, extra, place = b"", b"", 8 + len(data)
    for tag, (kind, values) in sorted(tags.items()):
        packed = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{'_BxHI'[kind]}", *values)
        count = len(packed) // (1, 1, 1, 2, 4, 8, 1, 1)[kind]
        where = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place + len(extra))
        extra += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, count) + where
    head = b"II*\0" + struct.pack("<I", place + len(extra))
    return head + data + extra + struct.pack("<H", len(tags)) + entries + bytes(4)


def _grey() -> dict[int, tuple[int, list[int] | bytes]]:
    return {**{n: (3, [1]) for n in (259, 262, 277)}, 258: (3, [8])}


def tiff_strips(dice: random.Random, size: int) -> bytes:
    """A strip for each row of one pixel, all in the same place."""
    tags = _grey() | {256: (4, [1]), 257: (4, [size]), 278: (4, [1]), 273: (1, bytes([8]) * size)}
    return tiff(tags | ({279: (1, bytes([1]) * size)} if dice.random() < 0.5 else {}), bytes(256))


def tiff_tiles(dice: random.Random, size: int) -> bytes:
    """Tiles of 16 x 16, all in the same place."""
    side = int((size * 16) ** 0.5) // 16 * 16
    many = (side // 16) ** 2 + dice.randrange(2)
    tags = _grey() | {256: (4, [side]), 257: (4, [side]), 322: (3, [16]), 323: (3, [16])}
    return tiff(tags | {324: (1, bytes([8]) * many), 325: (3, [256] * many)}, bytes(256))


def tiff_tags(dice: random.Random, size: int) -> bytes:
    """Tags of many values, of which an image has one."""
    tags: dict[int, tuple[int, list[int] | bytes]] = {n: (3, [1]) for n in (259, 262, 277)}
    tags |= {256: (4, [8]), 257: (4, [8]), 258: (3, [8]), 278: (4, [8]), 273: (4, [8]), 279: (4, [64])}
    tags[dice.choice((258, 266, 338, 339, 320, 530, 532))] = (3, bytes(size // 2 * 2))
    return tiff(tags, bytes(64))


def tiff_bomb(dice: random.Random, size: int) -> bytes:
    """One strip that inflates to far more than the image has."""
    tags: dict[int, tuple[int, list[int] | bytes]] = {n: (3, [1]) for n in (262, 277)}
    data = zlib.compress(bytes(100 * size), 9)
    tags |= {256: (4, [8]), 257: (4, [8]), 258: (3, [8]), 259: (3, [8]), 278: (4, [2**31]), 273: (4, [8])}
    return tiff(tags | {279: (4, [len(data)])}, data)


def _bmp(width: int, height: int, compression: int, data: bytes, bits: int = 8) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(data), 0, 0, 14 + len(head)) + head + data


def bmp_lines(dice: random.Random, size: int) -> bytes:
    """One pixel, end of the line, end of the image: the rest of the line is filled up."""
    width = dice.choice((1000, 60_000))
    lines = size * 10 // width
    return _bmp(width, lines, 1, b"\1\5" + b"\0\0\1\5" * lines + b"\0\1")


def bmp_jumps(dice: random.Random, size: int) -> bytes:
    """Over 255 pixels and lines."""
    lines = size // dice.randrange(100, 200)
    return _bmp(1000, lines, dice.choice((1, 2)), b"\1\5" + b"\0\2\xff\xff" * lines + b"\0\0\0\1")


def bmp_runs(dice: random.Random, size: int) -> bytes:
    """Runs of four bits, or of no pixels."""
    run = dice.choice((b"\xff\x12", b"\1\1", b"\0\2\0\0"))
    return _bmp(1000, size // 100, dice.choice((1, 2)), _times(run, size // 2))


def gif_comment(dice: random.Random, size: int) -> bytes:
    """Sub-blocks of one byte, of which Pillow makes one text; or of another extension."""
    kind = 0xFE if dice.random() > 0.25 else dice.choice((0xFF, 1))
    block = bytes([0x21, kind]) + _times(b"\1a", size) + b"\0"
    screen = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6)
    return screen + block + b"\x2c" + bytes(4) + b"\1\0\1\0\0" + b"\x02\x02\x44\x01\x00" + b";"


def gif_extensions(dice: random.Random, size: int) -> bytes:
    screen = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6)
    blocks = _times(dice.choice((b"\x21\xf9\0", b"\x21\xf9\4\0\0\0\0\0", b"\x21\xfe\0")), size)
    return screen + blocks + b"\x2c" + bytes(4) + b"\1\0\1\0\0" + b"\x02\x02\x44\x01\x00" + b";"


def webp_groups(_dice: random.Random, size: int) -> bytes:
    return vp8l.groups(min(1024, 4 * int((size / 6) ** 0.5)))


def webp_chunks(dice: random.Random, size: int) -> bytes:
    file = encode(drawing(16, 16), "WEBP")
    return file[:12] + _times(dice.choice((b"XMP ", b"junk", b"ANMF")) + struct.pack("<I", 2) + b"ab", size) + file[12:]


KINDS: dict[str, Make] = {
    made.__name__: made
    for made in (
        *(tall_png, wide_png, deep_png, png_profiles, png_texts, png_chunks, png_lost, png_exif),
        *(jpeg_exif, jpeg_fill, jpeg_tables, jpeg_segments, jpeg_scans, jpeg_narrow, endless_profile),
        *(tiff_strips, tiff_tiles, tiff_tags, tiff_bomb, bmp_lines, bmp_jumps, bmp_runs),
        *(gif_comment, gif_extensions, webp_groups, webp_chunks),
    )
}
