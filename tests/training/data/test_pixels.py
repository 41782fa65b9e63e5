"""Files become arrays: of any colour mode, hashed, and honest about what is no image."""

import dataclasses
import hashlib
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artifact.decoder import confined
from app.artifact.decoder.decode import InputSpec
from app.machine import Cores
from tests.images import drawing, encode
from training.data import pixels
from training.data.copies.fingerprint import fingerprint
from training.data.pixels import Pixels
from training.data.source import index
from training.data.statistics import Summary
from training.errors import TrainingError

SPEC = InputSpec(
    width=24, height=24, channels=3, crop_fraction=1, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
TURN = Image.Transpose
# EXIF orientation -> how the image must be stored to be displayed upright
STORED = {
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def load(root: Path, memory: int | None = None, recorded: list[str] | None = None) -> Pixels:
    return pixels.load(index(str(root)), "all", SPEC, recorded=recorded, memory=memory)


def summarised(root: Path, memory: int | None = None) -> Summary:
    summary = Summary(moments=True)
    pixels.load(index(str(root)), "all", SPEC, memory=memory, summary=summary)
    return summary


def all_of(loaded: Pixels) -> NDArray[np.uint8]:
    return loaded.take(np.arange(len(loaded)))


def both(root: Path, file: bytes, reference: Image.Image) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """The file as training sees it, and a plain RGB PNG of what it shows."""
    write(root, {"a/file": file, "b/reference": encode(reference.convert("RGB"))})
    first, second = all_of(load(root)).astype(np.int16)
    return first, second


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """12 images and, between them, two files that are none."""
    jpeg = encode(drawing(), "JPEG")
    files = {f"{'ab'[i % 2]}/{i:02}.png": encode(drawing(seed=i)) for i in range(12)}
    files |= {"a/05 text.jpg": b"not an image at all", "b/06 truncated.jpg": jpeg[: len(jpeg) // 2]}
    return write(tmp_path / "mixed", files)


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_palette_and_bilevel_files_load_as_the_colours_they_show(mode: str, tmp_path: Path) -> None:
    shown = drawing().quantize(64) if mode == "P" else drawing().convert(mode)
    found, expected = both(tmp_path, encode(shown), shown)
    assert (found == expected).all()


def test_a_cmyk_file_loads_as_the_colours_it_shows(tmp_path: Path) -> None:
    shown = drawing().convert("CMYK")
    found, expected = both(tmp_path, encode(shown, "JPEG", quality=95), shown)
    assert np.abs(found - expected).mean() < 3, "JPEG loses a little"


def test_a_transparent_file_is_laid_on_white(tmp_path: Path) -> None:
    shown = drawing()
    alpha = np.asarray(Image.linear_gradient("L").resize(shown.size))
    on_white = np.asarray(shown) * (alpha[..., None] / 255) + 255 - alpha[..., None]
    shown.putalpha(Image.fromarray(alpha))
    found, expected = both(tmp_path, encode(shown), Image.fromarray(on_white.round().astype(np.uint8)))
    assert np.abs(found - expected).max() <= 2, "one rounding before and one after the resize"


@pytest.mark.parametrize("orientation", STORED)
def test_an_exif_rotated_file_loads_upright(orientation: int, tmp_path: Path) -> None:
    upright = drawing(64, 40)
    stored = encode(upright.transpose(STORED[orientation]), "PNG", orientation)
    found, expected = both(tmp_path, stored, upright)
    assert np.abs(found - expected).max() <= 1


def test_unreadable_files_are_listed_with_a_reason_and_skipped(mixed: Path) -> None:
    loaded = load(mixed)
    assert [path for path, _ in loaded.skipped] == ["a/05 text.jpg", "b/06 truncated.jpg"]
    assert all(why for _, why in loaded.skipped)
    assert len(loaded) == len(loaded.sha256) == len(loaded.labels) == 12


def test_where_nothing_can_be_decoded_in_no_image_is_called_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {f"{label}/1.bmp": encode(drawing(), "BMP") for label in "ab"})
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(confined, "processes", confined.Processes)  # those that run already would do it
    with pytest.raises(confined.DecoderLost):
        load(tmp_path)


def test_pixels_labels_and_checksums_stay_aligned_behind_a_skipped_file(mixed: Path) -> None:
    loaded = load(mixed)
    for number, sample in enumerate(loaded.samples):
        file = (mixed / sample.path).read_bytes()
        alone = write(mixed.parent / f"alone{number}", {"x/1.png": file, "y/1.png": file})
        assert (loaded.take(np.array([number]))[0] == all_of(load(alone))[0]).all()
        assert loaded.sha256[number] == hashlib.sha256(file).hexdigest()
        assert loaded.labels[number] == "ab".index(sample.path[0])


def test_pixels_decoded_on_demand_equal_those_in_memory(mixed: Path) -> None:
    cached, lazy = load(mixed), load(mixed, memory=0)
    assert lazy.samples == cached.samples
    order = np.random.default_rng(0).permutation(len(cached))
    assert (lazy.take(order) == cached.take(order)).all()


def test_pixels_beyond_the_memory_limit_are_not_kept(mixed: Path) -> None:
    """Seen from outside: a file that vanishes later is missed only by whoever decodes on demand."""
    cached, lazy = load(mixed), load(mixed, memory=24 * 24 * 3 * 14 - 1)
    shutil.rmtree(mixed)
    assert all_of(cached).shape == (12, 24, 24, 3)
    with pytest.raises(FileNotFoundError):
        all_of(lazy)


def test_batches_are_the_whole_split_in_order(mixed: Path) -> None:
    loaded = dataclasses.replace(load(mixed), size=(512, 128))  # of which five make almost a megabyte
    parts = list(loaded.batches())
    assert [len(part) for part in parts] == [5, 5, 2]
    assert (np.concatenate(parts) == all_of(loaded)).all()


def test_unchanged_files_pass_and_a_changed_one_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{label}/1.png": encode(drawing(seed=i)) for i, label in enumerate("ab")})
    recorded = list(load(root).sha256)
    assert len(load(root, recorded=recorded)) == 2
    (root / "b/1.png").write_bytes(encode(drawing(seed=7)))
    with pytest.raises(TrainingError, match=r"1 of 2 files changed or vanished since training, the first: b/1\.png"):
        load(root, recorded=recorded)


def test_a_file_that_vanished_since_training_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, {f"{label}/1.png": encode(drawing()) for label in "ab"})
    listed, recorded = index(str(root)), list(load(root).sha256)
    (root / "a/1.png").unlink()
    with pytest.raises(TrainingError, match=r"the first: a/1\.png"):
        pixels.load(listed, "all", SPEC, recorded=recorded)


def test_a_split_without_any_image_is_an_error(tmp_path: Path) -> None:
    root = write(tmp_path, {"a/1.jpg": b"text", "b/1.jpg": b"text"})
    with pytest.raises(TrainingError, match="none of the 2 files of all is an image"):
        load(root)


def test_progress_counts_every_file(mixed: Path) -> None:
    counted: list[int] = []
    pixels.load(index(str(mixed)), "all", SPEC, progress=counted.append)
    assert counted == sorted(counted)
    assert counted[-1] == 14
    assert len(counted) >= 4


def test_a_few_files_are_read_by_all_cores(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers who wait for each other: in one thread the first would wait for ever."""
    monkeypatch.setattr(pixels.machine, "cores", lambda: Cores(2, "as the test says"))
    data, meet = index(str(mixed)), threading.Barrier(2)

    def read(path: str) -> bytes:
        meet.wait(10)
        return data.read(path)

    assert len(pixels.load(dataclasses.replace(data, read=read), "all", SPEC)) == 12


@pytest.mark.parametrize("memory", [None, 0])
def test_mean_and_std_are_those_of_all_pixels(mixed: Path, memory: int | None) -> None:
    values = all_of(load(mixed)).reshape(-1, 3) / 255
    mean, std = summarised(mixed, memory=memory).mean_and_std(3)
    assert mean == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert std == pytest.approx(values.std(axis=0), abs=1e-5)


def test_mean_and_std_of_one_channel_are_those_of_luma(mixed: Path) -> None:
    luma = all_of(load(mixed)).reshape(-1, 3) / 255 @ np.array([0.299, 0.587, 0.114])
    mean, std = summarised(mixed).mean_and_std(1)
    assert mean == pytest.approx((luma.mean(),), abs=1e-5)
    assert std == pytest.approx((luma.std(),), abs=1e-5)


def test_std_of_a_single_colour_is_not_zero(tmp_path: Path) -> None:
    file = encode(Image.new("RGB", (8, 8), (10, 20, 30)))
    _, std = summarised(write(tmp_path, {"a/1.png": file, "b/1.png": file})).mean_and_std(3)
    assert std == pytest.approx((1 / 255,) * 3, abs=1e-6)


def test_the_hashes_are_of_the_images_in_order_without_the_files_that_are_none(mixed: Path) -> None:
    assert (summarised(mixed, memory=0).hashes == fingerprint(all_of(load(mixed)))).all()


def test_a_pipe_in_a_class_folder_is_skipped_and_not_waited_for(mixed: Path) -> None:
    os.mkfifo(mixed / "a" / "pipe.jpg")
    assert "a/pipe.jpg" in [path for path, _ in load(mixed).skipped]
