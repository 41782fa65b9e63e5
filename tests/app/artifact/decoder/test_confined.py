"""What is no plain JPEG, PNG or WebP is decoded in a process with limits, to the same pixels, and leaves nothing."""

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.artifact.decoder import confined
from app.artifact.decoder.confined import DecoderLost, Processes, processes
from app.artifact.decoder.decode import BrokenImage, decode, inspect
from app.artifact.decoder.header import read
from app.artifact.decoder.stop import Stop, Stopped
from app.errors import PROBLEMS, problem_of
from tests.app.artifact.decoder.hostile import profile
from tests.images import chunk, drawing, encode, png, spec

pytestmark = pytest.mark.skipif(not confined.possible(), reason="no signal at the end of a pipe here")
ENDLESS = encode(drawing(16, 16), "PNG", icc_profile=profile(random.Random(0), 300_000))


def forked() -> list[int]:
    process = processes()._process
    assert process
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "file",
    [
        encode(drawing(), "BMP"),
        encode(drawing().quantize(16), "GIF"),
        encode(drawing(), "TIFF", 6, compression="tiff_lzw"),
        encode(drawing(), "WEBP", 8, lossless=True),
        encode(drawing(), "JPEG", 6)[:-2],
    ],
    ids=["BMP", "GIF", "TIFF", "lossless WebP", "JPEG without an end"],
)
def test_the_pixels_are_those_of_this_process(file: bytes) -> None:
    header = inspect(file, spec())
    assert header.confined
    there, here = decode(file, header), decode(file, read(file, spec()))
    assert np.array_equal(there.pixels, here.pixels)
    assert there[1:] == here[1:]


@pytest.mark.parametrize(
    "file",
    [
        encode(drawing(), "JPEG", 6),
        encode(drawing(), "JPEG", progressive=True),
        encode(drawing().convert("CMYK"), "JPEG"),
        encode(drawing(), "PNG"),
        encode(drawing().convert("LA"), "PNG", 6),
        encode(drawing(), "WEBP", 6),
    ],
    ids=["JPEG with EXIF", "progressive JPEG", "CMYK JPEG", "PNG", "PNG with alpha and EXIF", "WebP with EXIF"],
)
def test_a_plain_file_needs_no_process(file: bytes) -> None:
    assert inspect(file, spec()).confined is None


def test_what_takes_too_long_is_killed_and_the_next_image_is_decoded() -> None:
    started = time.process_time()
    with pytest.raises(BrokenImage, match="PNG file cannot be decoded: it takes more time than any image of its size"):
        decode(ENDLESS, spec())
    assert time.process_time() - started < 0.3  # of this process
    assert decode(encode(drawing(), "BMP"), spec()).format == "BMP"


def test_who_decodes_is_free_when_it_is_told_to_stop_and_its_process_is_gone() -> None:
    stop, known = Stop(), set(forked())
    header = inspect(ENDLESS, spec(), stop=stop)
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with pytest.raises(BrokenImage):
        decode(ENDLESS, header)
    timer.join()
    assert set(forked()) <= known
    with pytest.raises(Stopped):
        inspect(ENDLESS, spec(), stop=stop)


def test_a_large_plain_file_is_no_longer_read_when_it_is_told_to_stop() -> None:
    stop = Stop()
    file = png(2000, 2000, 8, 2, os.urandom(6001 * 2000))
    header = inspect(file, spec(), stop=stop)
    stop.set()
    with pytest.raises(Stopped):
        decode(file, header)


def test_a_process_that_cannot_be_started_says_nothing_about_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderLost, match="no process can be started to decode in") as lost:
        Processes().inspect("BMP", encode(drawing(), "BMP"), spec(), 10**6, None)
    problem = problem_of(lost.value)
    assert (PROBLEMS[problem.code].status, problem.headers) == (503, {"Retry-After": "2"})
    assert "/nowhere" not in problem.detail


def test_a_header_that_nobody_decodes_ends_its_process() -> None:
    header = inspect(encode(drawing(), "BMP"), spec())
    (pid,) = set(forked()) - {0} if len(forked()) == 1 else {max(forked())}
    del header
    assert gone(pid)


def test_killed_processes_are_replaced_whichever_it_is() -> None:
    file = encode(drawing(), "BMP")
    decode(file, spec())
    first = processes()._process
    assert first
    for pid in (*forked(), first.pid):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    assert decode(file, spec()).format == "BMP"
    second = processes()._process
    assert second
    assert second.pid != first.pid


def test_many_threads_decode_at_once() -> None:
    files = [encode(drawing(40, 30, seed), "TIFF") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda at: decode(files[at % 4], spec()).pixels, range(40)))
    assert all(np.array_equal(each, made[at % 4]) for at, each in enumerate(made))


def test_nothing_is_left_of_a_process_that_is_killed() -> None:
    code = (
        "import sys, time; from app.artifact.decoder.confined import processes; "
        "from app.artifact.decoder.decode import decode; from tests.images import drawing, encode, spec; "
        "decode(encode(drawing(), 'BMP'), spec()); p = processes()._process.pid; "
        "print(p, open(f'/proc/{p}/task/{p}/children').read(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    left = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(left) == 2
    assert all(gone(pid) for pid in left)


def test_a_run_length_coded_bitmap_is_decoded_as_pillow_does() -> None:
    dice = random.Random(0)
    for bits, code in ((8, 1), (4, 2)) * 40:
        width, height = dice.randrange(1, 40), dice.randrange(1, 20)
        codes = bytearray()
        for _ in range(height * dice.randrange(1, 5)):
            match dice.randrange(6):
                case 0 | 1:
                    codes += bytes([dice.randrange(1, 60), dice.randrange(256)])
                case 2:
                    codes += b"\0\0"
                case 3:
                    codes += bytes([0, 2, dice.randrange(4), dice.randrange(2)])
                case _:
                    count = dice.randrange(3, 30)
                    length = count if code == 1 else (count + 1) // 2
                    codes += bytes([0, count]) + dice.randbytes(length + length % 2)
        codes += bytes([width, 7, 0, 0]) * height
        head = (40, width, height, 1, bits, code, len(codes), 0, 0, 2**bits, 0)
        palette = dice.randbytes(4 * 2**bits)
        body = b"".join(each.to_bytes(2 if at in (3, 4) else 4, "little") for at, each in enumerate(head)) + palette
        odd = bytes(dice.randrange(2))
        offset = 14 + len(body) + len(odd)
        file = b"BM" + bytes(8) + offset.to_bytes(4, "little") + body + odd + codes
        same = spec(width, height)
        with Image.open(io.BytesIO(file)) as whole:
            try:
                expected = np.asarray(whole.convert("RGB"))
            except (OSError, ValueError):
                with pytest.raises(BrokenImage):
                    decode(file, read(file, same))
                continue
        assert np.array_equal(decode(file, read(file, same)).pixels, expected)


def test_a_png_of_a_million_rows_claims_what_they_take() -> None:
    rows = 2**20
    file = png(1, rows, 8, 3, bytes(2 * rows), chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0\xff"))
    assert inspect(file, spec()).memory > 64 * rows
