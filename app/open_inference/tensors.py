"""One input tensor, as JSON or as bytes, to images; everything is checked against the shape that was announced."""

import binascii
import math
import struct
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.open_inference.json_numbers import NumberText
from app.open_inference.models import ENCODED, Tensor

_BASE64_PIECE = 65_536  # 0.3 ms
_BASE64_TIDY = str.maketrans("-_", "+/", " \t\r\n")
_LENGTH_BYTES = 4  # before each element of a binary BYTES tensor, little-endian
_MOST = 2**31


def images_in(tensor: Tensor, shape: Any, max_images: int) -> int:
    """The number of images that a shape announces. Raises Problem where it is not the tensor's."""
    dimensions = isinstance(shape, list) and all(type(side) is int and 0 <= side < _MOST for side in shape)
    if not dimensions or len(shape) != len(tensor.shape) or tuple(shape[1:]) != tensor.shape[1:]:
        wanted = ", ".join(["N", *(str(side) for side in tensor.shape[1:])])
        given = f", not [{', '.join(map(str, shape[:8]))}]" if dimensions else ""
        refuse(f"`{tensor.name}` has the shape [{wanted}]{given}.")
    _check_count(shape[0], max_images)
    return int(shape[0])


def of_json(tensor: Tensor, data: Any, images: int) -> list[bytes] | NDArray[np.uint8]:
    """From `data`: numbers, nested or flat; of encoded images base64, because JSON has no bytes. Raises Problem."""
    if tensor.name == ENCODED:
        if not isinstance(data, list) or len(data) != images or not all(isinstance(each, str) for each in data):
            refuse(f"`{ENCODED}` needs {images} strings, each an image in base64.")
        return [_of_base64(each) for each in data]
    shape = (images, *tensor.shape[1:])
    count = math.prod(shape)
    try:
        if not isinstance(data, NumberText):
            raise ValueError
        return data.as_uint8(count).reshape(shape)
    except (ValueError, TypeError):
        refuse(f"`data` of `{tensor.name}` must be {count} whole numbers from 0 to 255.")


def of_binary(tensor: Tensor, data: memoryview, images: int) -> list[bytes] | NDArray[np.uint8]:
    """From the bytes after the JSON; the pixels are not copied. Raises Problem."""
    if tensor.name != ENCODED:
        shape = (images, *tensor.shape[1:])
        if len(data) != math.prod(shape):
            refuse(f"`{tensor.name}` of that shape has {math.prod(shape)} bytes, not {len(data)}.")
        return np.frombuffer(data, np.uint8).reshape(shape)
    elements, place = [], 0
    for number in range(images):
        if len(data) - place < _LENGTH_BYTES:
            refuse(f"`{ENCODED}` announces {images} elements, but its bytes end after {number}.")
        (length,) = struct.unpack_from("<I", data, place)
        place += _LENGTH_BYTES
        if length > len(data) - place:
            refuse(f"Element {number} of `{ENCODED}` announces {length} bytes; {len(data) - place} are left.")
        elements.append(bytes(data[place : place + length]))
        place += length
    if place < len(data):
        refuse(f"`{ENCODED}` has {len(data) - place} bytes after its {images} elements.")
    return elements


def raw(tensor: Tensor, body: bytes, max_images: int) -> list[bytes] | NDArray[np.uint8]:
    """A body that is the tensor and nothing else: one encoded image, or as many images' pixels as it holds."""
    if tensor.name == ENCODED:
        return [body]
    images, rest = divmod(len(body), math.prod(tensor.shape[1:]))
    if rest:
        refuse(f"{len(body)} bytes are no whole number of images of {math.prod(tensor.shape[1:])} bytes.")
    _check_count(images, max_images)
    return of_binary(tensor, memoryview(body), images)


def _check_count(images: int, max_images: int) -> None:
    if not images:
        refuse("There is no image in it.")
    if images > max_images:
        limit = f"at most {max_images} a request (half of each worker's share of SIGHTGLASS_MAX_QUEUE)"
        refuse(f"{images} images; this service takes {limit}.")


def _of_base64(text: str) -> bytes:
    """Of either alphabet (RFC 4648, sections 4 and 5), with or without line ends and padding: all encoders' ways.

    In pieces, because the interpreter is held for each.
    """
    bare = text.rstrip(" \t\r\n=")
    padding, decoded, left = text.count("=", len(bare)), [], ""
    try:
        for place in range(0, len(bare), _BASE64_PIECE):
            left += bare[place : place + _BASE64_PIECE].translate(_BASE64_TIDY)
            whole = len(left) // 4 * 4
            decoded.append(binascii.a2b_base64(left[:whole], strict_mode=True))
            left = left[whole:]
        missing = -len(left) % 4
        if "=" in bare or padding not in (0, missing):
            raise ValueError
        decoded.append(binascii.a2b_base64(left + "=" * missing, strict_mode=True))
    except ValueError:  # binascii.Error is one
        hint = ": it is a data URL; send what is behind its comma" if text.startswith("data:") else ""
        refuse(f"A string of `{ENCODED}` is no base64{hint}.")
    return b"".join(decoded)


def refuse(detail: str) -> NoReturn:
    """The request does not fit the model."""
    raise Problem("bad_tensor", detail)
