"""What a file announces, and what decoding it takes, before a pixel of it is read."""

from typing import NamedTuple

from PIL import ImageFile

from app.artifact.decoder import confined, icc_profile, memory_cost, reader
from app.artifact.decoder.confined import Confined
from app.artifact.decoder.errors import ImageError, TooManyPixels
from app.artifact.decoder.formats import jpeg, png, webp
from app.artifact.decoder.geometry import Size
from app.artifact.decoder.input_spec import InputSpec, Preview
from app.artifact.decoder.kind import kind_of, refuse_text
from app.artifact.decoder.stop import Stop

__all__ = ["MAX_PIXELS", "Header", "ImageError", "inspect", "inspect_quickly", "kind_of", "read"]

MAX_PIXELS = 178_956_970  # 512 MiB as RGB; the service sets a lower limit
_MOST_SIDE = 2**20  # a JPEG's are at most 2^16; a row or column costs 64 to 128 bytes, whatever is in it
_MOST_PLAIN_SCANS = 20  # a progressive JPEG has about ten
_MOST_PLAIN_WEBP = 8_000_000  # pixels, 0.3 s in which libwebp looks at no stop


class Header(NamedTuple):
    """A file's `kind`, Pillow's name of its type, and `size`, width and height as stored. It is to be decoded once, at
    the `scale`-th part of its sides (1, 2, 4 or 8), which takes at most `memory` bytes besides the file.

    The rest is for `decode`: the `mode` of a plain JPEG, which needs no file object; the process that has it, of what
    is `confined`; of any other the `content` to be read, the file itself or a copy without the rest, the `image` that
    Pillow has opened, but for a WebP's, and EXIF's `orientation`. `cut`: a JPEG without its end. `stop`: when to end.
    """

    kind: str
    size: Size
    scale: int
    memory: int
    spec: InputSpec | Preview
    mode: str = ""
    content: bytes = b""
    image: ImageFile.ImageFile | None = None
    cut: bool = False
    orientation: int = 1
    confined: Confined | None = None
    stop: Stop | None = None


def inspect(data: bytes, spec: InputSpec | Preview, max_pixels: int = MAX_PIXELS, stop: Stop | None = None) -> Header:
    """What it takes to make `spec`'s pixels of a file. What is no plain JPEG, PNG or WebP is read, and later decoded,
    in a process with limits (confined.py). `stop` ends this and the decode.

    Raises UnsupportedImage, BrokenImage or TooManyPixels, all ImageError; DecoderLost; Stopped.
    """
    if found := _plain_jpeg(data, spec, max_pixels):
        return found
    kind = kind_of(data)
    found = _read(kind, data, spec, max_pixels, not confined.possible(), stop)
    if found:
        return found
    with reader.in_words(kind, data):
        reader.strip(kind, data)  # what nobody writes is refused before there is a process
        if said_size := reader.said_size(kind, data):
            _check_pixels(said_size, said_size[0] * said_size[1], max_pixels)
    process, said = confined.processes().inspect(kind, data, spec, max_pixels, stop)
    memory = said["memory"] + 2 * len(data) + confined.FORKED_BYTES
    return Header(said["kind"], tuple(said["size"]), said["scale"], memory, spec, confined=process, stop=stop)


def inspect_quickly(data: bytes, spec: InputSpec | Preview, max_pixels: int, small: bool) -> Header | None:
    """The same where to inspect a file takes microseconds, and to decode it a time that goes by its pixels: a plain
    JPEG; if `small`, a JPEG or PNG without thousands of parts, compressed text, colour profile or large EXIF, of which
    64 kB can take a third of a second. None for any other: the other types have no such promise."""
    if found := _plain_jpeg(data, spec, max_pixels):
        return found
    if not (small and (jpeg.is_quick(data) or png.is_quick(data))):
        return None
    return _read(kind_of(data), data, spec, max_pixels, anything=False)


def read(data: bytes, spec: InputSpec | Preview, max_pixels: int = MAX_PIXELS) -> Header:
    """`inspect` in this process, whatever that takes."""
    found = _read(kind_of(data), data, spec, max_pixels, anything=True)
    assert found
    return found


def _plain_jpeg(data: bytes, spec: InputSpec | Preview, max_pixels: int) -> Header | None:
    plain = jpeg.plain(data)
    if plain is None or plain[1] * plain[2] > max_pixels:
        return None
    mode, *sides = plain
    size = width, height = sides[0], sides[1]
    scale = jpeg.divisor(size, spec.most_reduction(size, 1))
    memory = width * height * memory_cost.JPEG_BYTES // scale**2
    memory += memory_cost.resizing(spec, size, scale) + memory_cost.lines(size, scale)
    return Header("JPEG", size, scale, memory, spec, mode)


def _read(
    kind: str, data: bytes, spec: InputSpec | Preview, max_pixels: int, anything: bool, stop: Stop | None = None
) -> Header | None:
    """By Pillow's file object, which knows every kind and the words for what is wrong with it. None, unless `anything`
    is wanted, for what may take more than its header says."""
    if not anything and kind not in ("JPEG", "PNG", "WEBP"):
        return None
    with reader.in_words(kind, data):
        content, orientation = reader.strip(kind, data)
        copied = 0 if content is data else len(content)
        if kind == "WEBP":
            return _webp(data, content, orientation, spec, max_pixels, anything)
        scans = jpeg.scans(content) if kind == "JPEG" else []
        cut = kind == "JPEG" and not jpeg.is_ended(content)
        if not anything and (cut or len(scans) > _MOST_PLAIN_SCANS):
            return None
        image = reader.open_image(kind, content + jpeg.END * cut, stop)
        if not anything and icc_profile.is_endless(image.info.get("icc_profile")):
            return None
        size = width, height = image.size
        pixels = max(width * height, memory_cost.tile_pixels(image))
        _check_pixels(size, pixels, max_pixels)
        scale = 1
        if kind == "JPEG":
            scale = jpeg.divisor(size, spec.most_reduction(size, orientation))
            if scale > 1 and not image.draft(None, (width // scale, height // scale)):
                scale = 1
        needed = memory_cost.resizing(spec, size, scale) + memory_cost.lines(size) + copied
        needed += int(pixels * memory_cost.bytes_per_pixel(image, size, scale, scans))
        if cut:
            needed += 2 * int(pixels * memory_cost.bytes_per_pixel(image, size, 1, scans) + len(content))
        return Header(kind, size, scale, needed, spec, "", content, image, cut, orientation, stop=stop)


def _webp(
    data: bytes, content: bytes, orientation: int, spec: InputSpec | Preview, max_pixels: int, anything: bool
) -> Header | None:
    """Pillow makes its canvases while it opens it: 38 bytes of file took 66 MB before anybody had seen its size."""
    size = webp.size(content)
    pixels = size[0] * size[1]
    if pixels > max_pixels:
        refuse_text(data)
    _check_pixels(size, pixels, max_pixels)
    plain = webp.is_plain(content) and pixels <= _MOST_PLAIN_WEBP
    if not anything and not (plain and not icc_profile.is_endless(webp.profile(content))):
        return None
    memory = len(content) + (0 if content is data else len(content)) + pixels * memory_cost.WEBP_BYTES
    memory += webp.tables_bytes(content) + memory_cost.lines(size)
    return Header("WEBP", size, 1, memory, spec, content=content, orientation=orientation)


def _check_pixels(size: Size, pixels: int, most: int) -> None:
    width, height = size
    if pixels > most:
        raise TooManyPixels(
            f"{width} x {height} pixels = {width * height / 1e6:.1f} MP; the limit is {most / 1e6:g} MP"
        )
    if max(size) > _MOST_SIDE:
        raise TooManyPixels(f"{width} x {height} pixels; no side may have more than {_MOST_SIDE}")
