"""Pictures share the memory of the container: a large one waits or is refused, it never kills the service."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from app.artifact.image import InputSpec, TooManyPixels, decode
from app.memory import Memory
from tests.pictures import encode, picture
from tests.serving import serving

SPEC = InputSpec(
    width=32, height=32, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
# In a process of its own: the peak of resident memory while decoding, and what the decoder claimed.
_PEAK = """
import json, sys
from contextlib import contextmanager
from pathlib import Path
from app.artifact.image import InputSpec, decode

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

@contextmanager
def claim(needed):
    global claimed
    claimed = needed
    yield

spec = InputSpec.model_validate_json(sys.argv[1])
small, large = (Path(name).read_bytes() for name in sys.argv[2:])
decode(small, spec)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = peak()
decode(large, spec, claim=claim)
print(json.dumps([peak() - before, claimed]))
"""


def kinds() -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """Name, mode, file type and options of every way in which a picture is decoded."""
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


@pytest.mark.parametrize(("mode", "kind", "options"), [pytest.param(*row[1:], id=row[0]) for row in kinds()])
def test_decoding_takes_no_more_than_it_claims(
    mode: str, kind: str, options: dict[str, object], tmp_path: Path
) -> None:
    drawn = picture(500, 400).resize((4000, 3000))
    image = Image.new("I;16", drawn.size, 40_000) if mode == "I;16" else drawn.convert(mode)
    (tmp_path / "large").write_bytes(encode(image, kind, **options))
    (tmp_path / "small").write_bytes(encode(picture(40, 40), kind))
    arguments = [SPEC.model_dump_json(), str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", _PEAK, *arguments], capture_output=True, text=True, check=True)
    took, claimed = json.loads(done.stdout)
    assert took <= claimed + 2_000_000  # the resized picture, and what the allocator rounds up
    assert claimed <= 4 * took + 2_000_000  # or pictures would be refused for nothing


def test_a_picture_that_can_never_fit_is_refused_with_both_numbers() -> None:
    memory = Memory(100_000_000)
    with pytest.raises(TooManyPixels, match=r"needs 112 MB to decode; .* has 60 MB"):
        decode(encode(Image.new("RGBA", (4000, 2000))), SPEC, claim=memory.for_decoding)
    decode(encode(Image.new("RGB", (4000, 2000))), SPEC, claim=memory.for_decoding)


def test_pictures_that_fit_one_at_a_time_wait_for_each_other() -> None:
    memory = Memory(100)  # 60 to decode
    held = total = most = 0
    lock = threading.Lock()

    @contextmanager
    def counted(needed: int) -> Iterator[None]:
        nonlocal held, total, most
        with memory.for_decoding(needed):
            with lock:
                held, total = held + needed, total + 1
                most = max(most, held)
            yield
            with lock:
                held -= needed

    def work(needed: int) -> None:
        for _ in range(200):
            with counted(needed):
                pass

    threads = [threading.Thread(target=work, args=(needed,)) for needed in (60, 40, 25, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert total == 800
    assert most <= 60


def test_a_failed_decode_gives_its_memory_back() -> None:
    memory = Memory(100)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), memory.for_decoding(60):
            raise ValueError("broken")


def test_uploads_beyond_the_memory_limit_are_told_to_wait(digits_artifact: Path, tmp_path: Path) -> None:
    """A limit of uploads far above what this machine has, so that their sizes alone fill it."""
    huge = 10**12
    with serving(digits_artifact, tmp_path, MAX_UPLOAD_BYTES=huge) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with httpx2.Client(base_url=server.url) as client, _half_an_upload(host, int(port), huge):
            client.get("/health")  # the half above has been read by now
            full = client.post("/predict", content=encode(picture()))
            assert full.status_code == 429
            assert full.json()["code"] == "queue_full"
        with httpx2.Client(base_url=server.url) as client:
            while (answer := client.post("/predict", content=encode(picture()))).status_code == 429:
                pass
            assert answer.status_code == 200


@contextmanager
def _half_an_upload(host: str, port: int, size: int) -> Iterator[None]:
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n\xff\xd8".encode("latin1")
        )
        yield
