"""What an image is said to take in memory is what it takes, whatever its kind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app.artifact.decoder.decode import InputSpec, decode, inspect
from app.artifact.decoder.header import read
from tests.images import drawing, encode, spec

SPEC = InputSpec(
    width=32, height=32, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
# In a process of its own, by `read`, which decodes there what has one: peak of resident memory, and what is asked for.
_PEAK = """
import json, sys
from pathlib import Path
from app.artifact.decoder.decode import InputSpec, decode
from app.artifact.decoder.header import read

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

spec = InputSpec.model_validate_json(sys.argv[1])
small, large = (Path(name).read_bytes() for name in sys.argv[2:])
decode(small, read(small, spec))
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = peak()
header = read(large, spec)
decode(large, header)
print(json.dumps([peak() - before, header.memory]))
"""


def kinds() -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """Name, mode, file type and options of every way in which an image is decoded."""
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        yield f"{mode} PNG", mode, "PNG", {"compress_level": 1}
    yield "P PNG with transparency", "P", "PNG", {"compress_level": 1, "transparency": 3}
    yield "RGB PNG with transparency", "RGB", "PNG", {"compress_level": 1, "transparency": (1, 2, 3)}
    for mode in ("RGB", "RGBA"):
        yield f"{mode} WebP", mode, "WEBP", {"quality": 10, "method": 0}
    yield "GIF", "P", "GIF", {}
    yield "GIF with transparency", "P", "GIF", {"transparency": 3}
    yield "BMP", "RGB", "BMP", {}
    for compression in ("raw", "tiff_lzw", "jpeg"):
        yield f"TIFF {compression}", "RGB", "TIFF", {"compression": compression}
    yield "CMYK TIFF in one strip", "CMYK", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 100_000}}
    for progressive in (False, True):
        for mode in ("RGB", "L", "CMYK"):
            options = {"progressive": progressive, "subsampling": 0}
            yield f"{mode} JPEG {'progressive' if progressive else 'baseline'}", mode, "JPEG", options


@pytest.mark.unmeasured
@pytest.mark.parametrize(("mode", "kind", "options"), [pytest.param(*row[1:], id=row[0]) for row in kinds()])
def test_decoding_takes_no_more_than_it_claims(
    mode: str, kind: str, options: dict[str, object], tmp_path: Path
) -> None:
    drawn = drawing(500, 400).resize((4000, 3000))
    image = Image.new("I;16", drawn.size, 40_000) if mode == "I;16" else drawn.convert(mode)
    (tmp_path / "large").write_bytes(encode(image, kind, **options))
    (tmp_path / "small").write_bytes(encode(drawing(40, 40), kind))
    arguments = [SPEC.model_dump_json(), str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", _PEAK, *arguments], capture_output=True, text=True, check=True)
    took, claimed = json.loads(done.stdout)
    assert took <= claimed + 4_000_000  # the resized image, and what the allocator and huge pages round up
    assert claimed <= 4 * took + 2_000_000  # or images would be refused for nothing


@pytest.mark.parametrize(
    "file",
    [
        encode(drawing(123, 77), "WEBP"),
        encode(drawing(123, 77), "WEBP", lossless=True),
        encode(drawing(123, 77).convert("RGBA"), "WEBP"),
        encode(drawing(123, 77), "WEBP", save_all=True, append_images=[drawing(123, 77, 1)]),
    ],
    ids=["VP8", "VP8L", "VP8X with alpha", "animated"],
)
def test_a_webp_claims_its_memory_before_it_is_opened(file: bytes) -> None:
    header = read(file, SPEC)
    assert header.image is None
    canvases = 123 * 77 * 22  # besides them, its first frame, and that once more, rows, and lossless its tables
    assert canvases + 100 < header.memory <= canvases + 2 * len(file) + 77 * 64 + 123 * 128 + 123 * 77 // 16 * 12_000
    assert decode(file, header).format == "WEBP"


def test_what_is_not_cropped_claims_what_resizing_takes() -> None:
    """An image a pixel wide is first made as wide as the model's input, in all of its rows."""
    file = encode(Image.new("L", (1, 1_000_000)), "PNG")
    whole, cropped = (inspect(file, spec(64, 64).model_copy(update={"fit": fit})).memory for fit in ("squash", "crop"))
    assert cropped < 70_000_000  # of which its rows take 64
    assert whole - cropped > 64 * 1_000_000
