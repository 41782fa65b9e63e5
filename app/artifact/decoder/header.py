"""What a file announces, and what decoding it takes, before a pixel of it is read."""

from typing import NamedTuple

from PIL import ImageFile

from app.artifact.decoder import memory_cost, reader
from app.artifact.decoder.errors import ImageError, TooManyPixels
from app.artifact.decoder.formats import jpeg, png, webp
from app.artifact.decoder.geometry import Size
from app.artifact.decoder.input_spec import InputSpec, Preview
from app.artifact.decoder.kind import kind_of, refuse_text

__all__ = ["MAX_PIXELS", "Header", "ImageError", "inspect", "inspect_quickly", "kind_of", "open_file"]

MAX_PIXELS = 178_956_970  # 512 MiB as RGB; the service sets a lower limit


class Header(NamedTuple):
    """A file's `kind`, Pillow's name of its type, and `size`, width and height as stored. It is to be decoded once, at
    the `scale`-th part of its sides (1, 2, 4 or 8), which takes at most `memory` bytes besides the file.

    The rest is for `decode`: the `mode` of a plain JPEG, which needs no file object; of any other the `content` to be
    read, the file itself or a copy without the rest, and the `image` that Pillow has opened, but for a WebP's. `cut`:
    a JPEG without its end.
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


def inspect(data: bytes, spec: InputSpec | Preview, max_pixels: int = MAX_PIXELS) -> Header:
    """What it takes to make `spec`'s pixels of a file.

    Raises UnsupportedImage, BrokenImage or TooManyPixels, all ImageError.
    """
    return _inspect(data, spec, max_pixels, jpeg.plain(data))


def inspect_quickly(data: bytes, spec: InputSpec | Preview, max_pixels: int, small: bool) -> Header | None:
    """The same where to inspect a file takes microseconds, and to decode it a time that goes by its pixels: a plain
    JPEG; if `small`, a JPEG or PNG without thousands of parts, compressed text, colour profile or large EXIF, of which
    64 kB can take a third of a second. None for any other: the other types have no such promise."""
    plain = jpeg.plain(data)
    if plain is None and not (small and (jpeg.is_quick(data) or png.is_quick(data))):
        return None
    return _inspect(data, spec, max_pixels, plain)


def _inspect(data: bytes, spec: InputSpec | Preview, max_pixels: int, plain: tuple[str, int, int] | None) -> Header:
    if plain is None or plain[1] * plain[2] > max_pixels:
        return open_file(data, spec, max_pixels)
    mode, width, height = plain
    scale = jpeg.divisor((width, height), spec.most_reduction((width, height), 1))
    memory = width * height * memory_cost.JPEG_BYTES // scale**2 + memory_cost.resizing(spec, (width, height), scale)
    return Header("JPEG", (width, height), scale, memory, spec, mode)


def open_file(data: bytes, spec: InputSpec | Preview, max_pixels: int = MAX_PIXELS) -> Header:
    """The same by Pillow's file object, which knows every kind and the words for what is wrong with it."""
    kind = kind_of(data)
    with reader.in_words(kind, data):
        content = reader.strip(kind, data)
        copied = 0 if content is data else len(content)
        if kind == "WEBP":
            # Pillow makes its canvases while it opens it: 38 bytes of file took 66 MB before anybody had seen its size
            size = webp.size(content)
            if size[0] * size[1] > max_pixels:
                refuse_text(data)
            _check_pixels(size, size[0] * size[1], max_pixels)
            memory = len(content) + copied + size[0] * size[1] * memory_cost.WEBP_BYTES
            return Header(kind, size, 1, memory, spec, content=content)
        scans = jpeg.scans(content) if kind == "JPEG" else []
        cut = kind == "JPEG" and not jpeg.is_ended(content)
        image = reader.open_image(kind, content + jpeg.END * cut)
        size = width, height = image.size
        pixels = max(width * height, memory_cost.tile_pixels(image))
        _check_pixels(size, pixels, max_pixels)
        scale = 1
        if kind == "JPEG":
            scale = jpeg.divisor(size, spec.most_reduction(size, reader.orientation(image)))
            if scale > 1 and not image.draft(None, (width // scale, height // scale)):
                scale = 1
        needed = memory_cost.resizing(spec, size, scale) + copied
        needed += int(pixels * memory_cost.bytes_per_pixel(image, scale, scans))
        if cut:
            needed += 2 * int(pixels * memory_cost.bytes_per_pixel(image, 1, scans) + len(content))
        return Header(kind, size, scale, needed, spec, content=content, image=image, cut=cut)


def _check_pixels(size: Size, pixels: int, most: int) -> None:
    width, height = size
    if pixels > most:
        raise TooManyPixels(
            f"{width} x {height} pixels = {width * height / 1e6:.1f} MP; the limit is {most / 1e6:g} MP"
        )
