"""TIFFs written out by hand, of every depth, photometric, order of planes and bytes: more than a library writes."""

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.unsignedinteger[Any]]  # [height, width, samples], in the file's depth
WHITE_IS_ZERO, BLACK_IS_ZERO, TRUE_COLOUR, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
UNSPECIFIED, PREMULTIPLIED, ALPHA = 0, 1, 2
RAW, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773


@dataclass(frozen=True)
class Layout:
    """How samples are laid out in the file; the names are TIFF 6.0's."""

    photometric: int
    bits: int
    order: str = "<"
    planes: int = 1  # 1: a pixel's samples together; 2: a plane each
    compression: int = RAW
    predictor: int = 1
    rows: int = 5  # of a strip
    tile: int = 0  # side in pixels, in place of strips
    fill: int = 1  # 2: each byte's lowest bit comes first
    extra: tuple[int, ...] | None = None
    sample_format: int = 1
    big: bool = False
    more: tuple[tuple[int, int, Sequence[int]], ...] = field(default=())  # tag, type, values


def tiff(samples: Samples, layout: Layout) -> bytes:
    """A TIFF of `samples` uint[height, width, samples], each below 2 ** layout.bits."""
    height, width, count = samples.shape
    parts = [_compressed(part, layout) for part in _parts(samples, layout)]
    tags: list[tuple[int, int, Sequence[int]]] = [(256, 4, [width]), (257, 4, [height]), (259, 3, [layout.compression])]
    tags += [(258, 3, [layout.bits] * count), (262, 3, [layout.photometric]), (277, 3, [count])]
    tags += [(284, 3, [layout.planes]), (266, 3, [layout.fill]), *layout.more]
    if layout.predictor != 1:
        tags.append((317, 3, [layout.predictor]))
    if layout.extra is not None:
        tags.append((338, 3, layout.extra))
    if layout.sample_format != 1:
        tags.append((339, 3, [layout.sample_format] * count))
    if layout.tile:
        tags += [(322, 3, [layout.tile]), (323, 3, [layout.tile])]
    else:
        tags.append((278, 4, [layout.rows]))
    place = 16 if layout.big else 8
    starts = [place + sum(map(len, parts[:at])) for at in range(len(parts))]
    tags += [(324 if layout.tile else 273, 4, starts), (325 if layout.tile else 279, 4, list(map(len, parts)))]
    return _file(sorted(tags), b"".join(parts), layout)


def _file(tags: Sequence[tuple[int, int, Sequence[int]]], data: bytes, layout: Layout) -> bytes:
    """The pixels from byte 8 (BigTIFF: 16) on, then the values that do not fit into their entries, the directory."""
    order, long, room = (layout.order, "Q", 8) if layout.big else (layout.order, "I", 4)
    place, far, entries = 2 * room + len(data), b"", b""
    for number, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
        if len(packed) > room:
            where = struct.pack(order + long, place + len(far))
            far += packed
        else:
            where = packed.ljust(room, b"\0")
        entries += struct.pack(f"{order}HH{long}", number, kind, len(values)) + where
    head = struct.pack(order + "HHH", 43, 8, 0) if layout.big else struct.pack(order + "H", 42)
    head = (b"II" if order == "<" else b"MM") + head + struct.pack(order + long, place + len(far))
    return head + data + far + struct.pack(order + ("Q" if layout.big else "H"), len(tags)) + entries + bytes(room)


def _parts(samples: Samples, layout: Layout) -> Iterator[Samples]:
    """Strips or tiles; tiles are filled up with zeros."""
    height, width, count = samples.shape
    for plane in [samples] if layout.planes == 1 else np.split(samples, count, axis=2):
        if not layout.tile:
            yield from (plane[top : top + layout.rows] for top in range(0, height, layout.rows))
            continue
        side = layout.tile
        for top, left in itertools.product(range(0, height, side), range(0, width, side)):
            part = plane[top : top + side, left : left + side]
            yield np.pad(part, ((0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)))


def _compressed(part: Samples, layout: Layout) -> bytes:
    if layout.predictor == 2:  # each sample less the one to its left
        part = np.concatenate([part[:, :1], part[:, 1:] - part[:, :-1]], axis=1) & (2**layout.bits - 1)
    rows = [_packed(row, layout) for row in part.reshape(len(part), -1)]
    match layout.compression:
        case 8:
            data = zlib.compress(b"".join(rows))
        case 5:
            data = _lzw(b"".join(rows))
        case 32773:  # literal runs only; none crosses a row
            data = b"".join(
                bytes([len(run) - 1]) + run
                for row in rows
                for run in (row[at : at + 128] for at in range(0, len(row), 128))
            )
        case _:
            data = b"".join(rows)
    return (
        np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
        if layout.fill == 2
        else data
    )


def _packed(row: Samples, layout: Layout) -> bytes:
    """A row's values, `bits` each, from a new byte on."""
    if layout.bits in (16, 32):
        return row.astype(f"{layout.order}u{layout.bits // 8}").tobytes()
    spread = (row.astype(np.uint32)[:, None] >> np.arange(layout.bits - 1, -1, -1)) & 1
    return np.packbits(spread.astype(np.uint8).ravel()).tobytes()


def _lzw(data: bytes) -> bytes:
    """LZW without a table: 9-bit codes, cleared before they would grow to ten bits."""
    codes = [code for at in range(0, len(data), 200) for code in (256, *data[at : at + 200])] + [257]
    spread = (np.asarray(codes)[:, None] >> np.arange(8, -1, -1)) & 1
    return np.packbits(spread.astype(np.uint8).ravel()).tobytes()
