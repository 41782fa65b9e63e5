"""Which TIFFs are read, and in what words the others are refused: there are hundreds of layouts."""

import io
import struct
from types import FunctionType
from typing import Any, Literal

from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from app.artifact.decoder.errors import BrokenImage

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _SAMPLES, _PLANES, _COLOUR_MAP, _EXTRA, _FORMAT = 266, 277, 284, 320, 338, 339
_WHITE_IS_ZERO = 0
_MOST_TAGS = 4096  # cameras and maps write 100
# Strips and tiles are handled one by one: a million took 28 s and 2 GB. 64 MP are 3,900 tiles of 128 x 128, and an
# image with a strip for each row has as many as rows. Then a palette of 16 bits, JPEG's tables, a colour profile.
_MOST_VALUES = {273: 65_536, 279: 65_536, 324: 65_536, 325: 65_536, 320: 3 * 65_536, 347: 65_536, 34675: 2**24}
_FEW_VALUES = 256
_WEBP = 50001  # Pillow's libtiff is built without it
_KINDS = {0: "grey (white is zero)", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_KINDS |= {9: "ICCLab", 10: "ITULab", 32803: "CFA (raw sensor)", 34892: "linear raw"}
_FORMATS = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}

# Everything that strips, tiles and colours are described by; orientation and profile.
_KEPT_TAGS = frozenset(
    {*range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, *range(320, 326), 332, 338}
)
_KEPT_TAGS |= {339, 347, *range(512, 522), *range(529, 533), 34675}


def _layouts() -> dict[Any, tuple[str, str]]:
    """What Pillow's table lacks, or has otherwise: byte order, photometric, format, fill order, bits, extra samples ->
    modes."""
    layouts: dict[Any, tuple[str, str]] = dict(TiffImagePlugin.OPEN_INFO)
    for order in (b"II", b"MM"):
        end = "B" if order == b"MM" else ""
        layouts |= {
            (order, 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
            (order, 1, (1,), 1, (12,), ()): ("I;16", "I;12"),
            (order, 0, (1,), 1, (16,), ()): (f"I;16{end}", f"I;16{end}"),
            # four samples, none of them said to be alpha: what the fourth is nobody knows (TIFF 6.0, page 31)
            (order, 2, (1,), 1, (8,) * 4, ()): ("RGB", "RGBX"),
            (order, 2, (1,), 1, (16,) * 4, ()): ("RGB", f"RGBX;16{end or 'L'}"),
            # premultiplied: Pillow divides in 8 bits what on_white would multiply again, and is off by two levels
            (order, 1, (1,), 1, (8,) * 2, (1,)): ("LA", "LA"),
            (order, 2, (1,), 1, (8,) * 4, (1,)): ("RGBA", "RGBA"),
            (order, 2, (1,), 1, (8,) * 5, (1, 0)): ("RGBA", "RGBAX"),
            (order, 2, (1,), 1, (8,) * 6, (1, 0, 0)): ("RGBA", "RGBAXX"),
            (order, 2, (1,), 1, (16,) * 4, (1,)): ("RGBA", f"RGBA;16{end or 'L'}"),
        }
        layouts.pop((order, 1, (2,), 1, (8,), ()), None)  # signed values, read as unsigned ones
    return layouts


class Tiff(TiffImageFile):
    """Pillow's, but by libtiff and the table above: its code with other globals, so that Pillow's own stay as they are.

    Its own reader of uncompressed files takes a plane of 16 bits for one of 8, and shears 4-bit tiles; libtiff reads
    all that it reads of the compressed ones (tests/app/artifact/decoder/formats/test_tiff.py).
    """

    _setup = FunctionType(
        TiffImageFile._setup.__code__, vars(TiffImagePlugin) | {"READ_LIBTIFF": True, "OPEN_INFO": _layouts()}
    )


def strip(data: bytes) -> tuple[bytes, int]:
    """The file with a directory of what decoding needs, of its first image: `data` itself where that is all it has;
    and 1, as Pillow applies a TIFF's orientation itself. Raises BrokenImage where it has more tags, or more values of
    one, than any image.

    libtiff refuses a file for a tag about its lens, and Pillow one for a resolution.
    """
    order: Literal["little", "big"] = "big" if data[:2] == b"MM" else "little"
    big = data[2:3] == b"+"
    offset, count, entry = (8, 8, 20) if big else (4, 2, 12)
    place = int.from_bytes(data[offset : 2 * offset if big else 8], order)
    many = int.from_bytes(data[place : place + count], order)
    if many > _MOST_TAGS:
        raise BrokenImage(f"the TIFF file has more than {_MOST_TAGS} tags")
    entries = [data[at : at + entry] for at in range(place + count, place + count + many * entry, entry)]
    kept = [each for each in entries if len(each) == entry and int.from_bytes(each[:2], order) in _KEPT_TAGS]
    for each in kept:
        tag, values = int.from_bytes(each[:2], order), int.from_bytes(each[4 : 4 + offset], order)
        if values > (most := _MOST_VALUES.get(tag, _FEW_VALUES)):
            raise BrokenImage(f"tag {tag} of the TIFF file has {values} values, more than {most}")
    if len(kept) == len(entries):
        return data, 1
    end = len(data) + len(data) % 2
    head = data[:offset] + end.to_bytes(8 if big else 4, order)
    directory = [len(kept).to_bytes(count, order), *kept, bytes(8 if big else 4)]
    return b"".join([head, memoryview(data)[len(head) :], bytes(len(data) % 2), *directory]), 1


def grey_bits(image: TiffImageFile) -> int:
    """Of a value. MaxSampleValue says nothing about it: it is "not to be used to affect the visual appearance"."""
    return _numbers(image.tag_v2, _BITS, 1)[0]


def is_inverse(image: TiffImageFile) -> bool:
    """Whether white is zero, in a file of which Pillow does not turn it round."""
    return image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO


def is_premultiplied(image: TiffImageFile) -> bool:
    """Whether its colours have been multiplied by their alpha."""
    return _numbers(image.tag_v2, _EXTRA, 0)[0] == 1


def is_planar(image: TiffImageFile) -> bool:
    """Whether each sample has a plane of its own."""
    return _numbers(image.tag_v2, _PLANES, 1)[0] == 2


def refusal(image: TiffImageFile) -> str | None:
    """Why the opened file's pixels would come out wrong; None where they would not."""
    # signed or floating-point values have no defined range
    if image.mode in ("I", "F") or _numbers(image.tag_v2, _COMPRESSION, 1)[0] == _WEBP:
        return _described(image.tag_v2)
    extra = _numbers(image.tag_v2, _EXTRA, 0)
    samples = _numbers(image.tag_v2, _SAMPLES, 1)[0] - (len(extra) if _EXTRA in image.tag_v2 and max(extra) == 0 else 0)
    # of planes Pillow loses the second of two and those that it has no band for, takes signed ones of CIELab for
    # unsigned ones, and divides premultiplied ones
    lost = image.mode in ("LA", "PA", "LAB") or samples > len(image.getbands()) or is_premultiplied(image)
    return _described(image.tag_v2) if lost and is_planar(image) else None


def name(data: bytes) -> str | None:
    """What a TIFF is, and that it is not read; None where even its directory cannot be."""
    directory = ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" else 8])
    try:
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        whole = all(isinstance(directory.get(tag), int) for tag in (_WIDTH, _LENGTH))
        return _described(directory) if whole else None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, struct.error):
        return None


def _described(tags: ImageFileDirectory_v2) -> str:
    photometric, samples = (_numbers(tags, tag, usual)[0] for tag, usual in ((_PHOTOMETRIC, 0), (_SAMPLES, 1)))
    bits, formats = (_numbers(tags, tag, 1) for tag in (_BITS, _FORMAT))
    odd = [
        _KINDS.get(photometric, f"photometric {photometric}"),
        f"{samples} x {bits[0]} bits" if samples > 1 else f"{bits[0]} bits",
        *(_FORMATS[each] for each in formats[:1] if each in _FORMATS),
        *(["a plane for each sample"] if _numbers(tags, _PLANES, 1)[0] == 2 else []),
        *(["the lowest bit first"] if _numbers(tags, _FILL_ORDER, 1)[0] == 2 else []),
        *(["extra samples"] if _EXTRA in tags else []),
    ]
    odd.append(f"compression {_numbers(tags, _COMPRESSION, 1)[0]}")
    return f"a TIFF of {', '.join(odd)} is not read; save it as RGB or grey with 8 bits per channel"


def palette(image: TiffImageFile) -> bytes | None:
    """The colours of a map whose values have 8 bits where the standard asks for 16, as Pillow's "RGB;L"; else None."""
    colours = _numbers(image.tag_v2, _COLOUR_MAP, 0)
    return bytes(colours) if 0 < max(colours) <= 255 else None


def _numbers(tags: ImageFileDirectory_v2, tag: int, usual: int) -> tuple[int, ...]:
    """The values of a tag; `usual` where it has none that are whole numbers."""
    values = tags.get(tag, usual)
    values = values if isinstance(values, tuple) else (values,)
    return values if values and all(isinstance(each, int) for each in values) else (usual,)
