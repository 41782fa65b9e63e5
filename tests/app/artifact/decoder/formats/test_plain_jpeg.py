"""What goes past Pillow's file object comes out as if it had not."""

import io
import random
import time

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder.decode import BrokenImage, ImageError, InputSpec, decode, inspect
from app.artifact.decoder.formats import jpeg

_SPECS = [
    InputSpec(
        width=side,
        height=side,
        channels=3,
        crop_fraction=fraction,
        interpolation="bicubic",
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    for side, fraction in ((32, 1), (64, 0.875))
]


def _jpeg(mode: str = "RGB", size: tuple[int, int] = (48, 40), seed: int = 0, **options: object) -> bytes:
    bands = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, noise.tobytes()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _outcome(data: bytes, spec: InputSpec) -> tuple[object, ...]:
    try:
        decoded = decode(data, spec)
    except ImageError as error:
        return type(error), str(error)
    return decoded.pixels.tobytes(), decoded.geometry, decoded.format


def _damaged(data: bytes, chance: random.Random) -> bytes:
    kind = chance.choice(["whole", "cut", "head", "anywhere", "tail"])
    if kind == "cut":
        return data[: chance.randrange(10, len(data))]
    if kind == "tail":
        return data + b"more" * 50
    changed = bytearray(data)
    for _ in range(0 if kind == "whole" else 4):
        changed[chance.randrange(2, min(700 if kind == "head" else 10**6, len(data)))] = chance.randrange(256)
    return bytes(changed)


def test_the_short_way_gives_the_same_pixels_or_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, plain = random.Random(0), 0
    for seed in range(600):
        size = chance.randrange(1, 200), chance.randrange(1, 200)
        mode = chance.choice(["RGB", "RGB", "L", "CMYK"])
        options = {"subsampling": chance.choice([0, 1, 2])} if mode == "RGB" else {}
        options |= chance.choice([{}, {}, {"progressive": True}, {"restart_marker_blocks": 2}, {"comment": b"hello"}])
        data = _damaged(_jpeg(mode, size, seed, quality=chance.choice([5, 75, 95]), **options), chance)
        spec = chance.choice(_SPECS)
        plain += jpeg.plain(data) is not None
        short = _outcome(data, spec)
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "plain", lambda _data: None)
            assert _outcome(data, spec) == short, seed
    assert plain > 200


def test_a_plain_head_announces_mode_and_size() -> None:
    assert jpeg.plain(_jpeg(size=(48, 40))) == ("RGB", 48, 40)
    assert jpeg.plain(_jpeg("L", (7, 9))) == ("L", 7, 9)


def _with_segment(code: int, content: bytes) -> bytes:
    data = _jpeg()
    return data[:2] + bytes([0xFF, code]) + (len(content) + 2).to_bytes(2) + content + data[2:]


def _one_component(data: bytes) -> bytes:
    """The same file, but for a scan that has the first of its three components only."""
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[scan + 14 :]


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"], ids=["plain", "with EXIF"])
def test_a_scan_without_every_component_is_charged_for_the_coefficients_that_libjpeg_keeps(exif: bytes) -> None:
    """8000 x 8000 pixels of it took 370 MB where 8 were claimed."""
    assert inspect(_one_component(_jpeg(size=(800, 600), exif=exif)), _SPECS[0]).memory >= 6 * 800 * 600


@pytest.mark.parametrize("more", [1, 90, 5000])
def test_scans_after_a_whole_one_are_refused_and_not_decoded(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a progressive file's takes as long as the first: 5,000 of them would take 2 s here."""
    data = _jpeg(size=(200, 200), quality=5)
    data = data[:-2] + data[data.index(b"\xff\xda") : -2] * more + data[-2:]
    assert jpeg.plain(data) == ("RGB", 200, 200)
    started = time.thread_time()
    refused = _outcome(data, _SPECS[0])
    assert time.thread_time() - started < 0.1
    monkeypatch.setattr(jpeg, "plain", lambda _data: None)
    assert _outcome(data, _SPECS[0]) == refused
    assert refused[0] is BrokenImage


@pytest.mark.parametrize(
    "data",
    [
        _jpeg("CMYK"),
        _jpeg(progressive=True),
        _jpeg(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        _jpeg(icc_profile=b"x" * 200),
        _jpeg(comment=b"x" * 5000),
        _with_segment(0xEE, b"Adobe\0d\0\0\0\0\0\0"),
        _with_segment(0xC0, b"\x08\0\x30\0\x30\x03" + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"),
        _jpeg()[:2] + b"\0\0" + _jpeg()[2:],
        _jpeg()[:300],
        _one_component(_jpeg()),
        b"\xff\xd8\xff",
        b"",
    ],
    ids=[
        "cmyk",
        "progressive",
        "exif",
        "icc",
        "long",
        "adobe",
        "frames",
        "gap",
        "cut",
        "component",
        "start",
        "empty",
    ],
)
def test_whatever_else_a_head_holds_is_for_pillow(data: bytes) -> None:
    assert jpeg.plain(data) is None
