"""Copies, of splits and of images: the same bytes, and images that look nearly the same."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from training.data.copies import near_duplicates
from training.data.copies.fingerprint import difference_hash, fingerprint
from training.data.pixels import load
from training.runs.checkpoint import Run
from training.variants.golden import draw


def drawn(count: int, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    return np.stack([np.asarray(draw(48, 40, generator)) for _ in range(count)])


def saved_again(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As a JPEG of usual quality, and a little darker."""
    buffer = io.BytesIO()
    Image.fromarray((pixels * 0.95).astype(np.uint8)).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


def test_an_image_saved_again_is_nearly_the_same_and_others_are_not() -> None:
    images = drawn(200)
    copies = np.stack([saved_again(image) for image in images[50:60]])
    found = near_duplicates.nearest(difference_hash(copies), difference_hash(images))
    assert [(here, there) for here, there, _ in found] == [(k, 50 + k) for k in range(10)]
    strangers = difference_hash(drawn(200, seed=1))
    assert near_duplicates.nearest(strangers, difference_hash(images)) == []


def test_no_pair_within_seven_bits_is_missed_and_none_beyond_is_found() -> None:
    generator = np.random.default_rng(0)
    others = generator.integers(0, 256, (100, 16), dtype=np.uint8)
    for bits in range(10):
        flips = np.zeros((100, 128), np.uint8)
        for row in flips:
            row[generator.choice(128, bits, replace=False)] = 1
        found = near_duplicates.nearest(others ^ np.packbits(flips, axis=1), others)
        assert found == ([(k, k, bits) for k in range(100)] if bits <= 7 else [])


def one_by_one(queries: NDArray[np.uint8], others: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Every query against every other; of several that are equally near argmin takes the first."""
    bits = np.unpackbits(queries[:, None] ^ others[None], axis=2).sum(axis=2)
    least = bits.argmin(axis=1)
    found = [(i, int(k), int(bits[i, k])) for i, k in enumerate(least)]
    return [row for row in found if row[2] <= near_duplicates.NEAR_BITS]


def framed(count: int, seed: int) -> NDArray[np.uint8]:
    """Hashes of images that are alike but in their middle: every band of neighbouring bits is often the same."""
    generator = np.random.default_rng(seed)
    bits = np.zeros((count, 2, 8, 8), np.uint8)
    bits[:, :, 2:6, 3:5] = generator.integers(0, 2, (count, 2, 4, 2))
    return np.packbits(bits.reshape(count, -1), axis=1)


def test_the_search_finds_what_comparing_all_with_all_finds() -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (300, 16), dtype=np.uint8)
    for queries, others in [
        (framed(200, 1), framed(400, 2)),
        (np.concatenate([noise[:50], framed(50, 3)]), np.concatenate([noise, framed(300, 4), noise])),
        (np.zeros((5, 16), np.uint8), np.zeros((7, 16), np.uint8)),
        (np.zeros((0, 16), np.uint8), noise),
        (noise, np.zeros((0, 16), np.uint8)),
    ]:
        assert near_duplicates.nearest(queries, others) == (one_by_one(queries, others) if len(others) else [])


def test_alike_borders_do_not_make_every_image_a_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 x 8,000 pairs few are compared, although most images agree in whole rows of their hashes."""
    generator = np.random.default_rng(0)
    bits = np.zeros((10_000, 128), np.uint8)
    bits[:, :48] = generator.integers(0, 2, (10_000, 48))
    hashed, compared, plain = np.packbits(bits, axis=1), 0, near_duplicates.pairs_between

    def counted(starts: near_duplicates.Places, ends: near_duplicates.Places) -> object:
        nonlocal compared
        compared += int((ends - starts).sum())
        return plain(starts, ends)

    monkeypatch.setattr(near_duplicates, "pairs_between", counted)
    near_duplicates.nearest(hashed[:2000], hashed[2000:])
    assert 0 < compared < 2000 * 8000 / 50


def test_the_hash_is_of_gradients_not_of_size_or_contrast() -> None:
    image = Image.fromarray(drawn(1)[0]).resize((96, 80), Image.Resampling.BICUBIC)
    small, large = drawn(1), np.asarray(image)[None]
    different = np.unpackbits(difference_hash(small) ^ difference_hash(large)).sum()
    assert different <= 4
    assert difference_hash(small).shape == (1, 16)


def test_the_same_file_in_two_splits_is_exact_and_is_not_counted_as_near_again() -> None:
    hashed = difference_hash(drawn(4))
    known = {"train": hashed[:3], "test": hashed[[2, 3, 0]]}
    (twins,) = near_duplicates.between({"train": ["a", "b", "c"], "test": ["c", "d", "e"]}, known)
    assert (twins.here, twins.there) == ("test", "train")
    assert twins.exact == ((0, 2, 0),)
    assert twins.near == ((2, 0, 0),), "other bytes, the same pixels"


def test_without_hashes_nothing_is_claimed_about_nearness(tmp_path: Path) -> None:
    assert near_duplicates.load(tmp_path) is None
    (tmp_path / near_duplicates.FILE).write_bytes(b"no zip file")
    assert near_duplicates.load(tmp_path) is None
    (twins,) = near_duplicates.between({"train": ["a"], "test": ["a"]}, None)
    assert (twins.exact, twins.near) == (((0, 0, 0),), None)


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_damaged_hashes_are_no_hashes(keep: int, colours_run: Path, tmp_path: Path) -> None:
    content = (colours_run / near_duplicates.FILE).read_bytes()
    (tmp_path / near_duplicates.FILE).write_bytes(content[:keep])
    assert near_duplicates.load(tmp_path) is None


@pytest.mark.parametrize("place", range(60, 3000, 150))
def test_hashes_with_a_byte_wrong_do_no_harm(place: int, colours_run: Path, tmp_path: Path) -> None:
    content = bytearray((colours_run / near_duplicates.FILE).read_bytes())
    content[place] ^= 0xFF
    (tmp_path / near_duplicates.FILE).write_bytes(content)
    near_duplicates.load(tmp_path)


def test_a_run_keeps_the_hashes_of_all_its_images(colours_run: Path) -> None:
    run, known = Run.open(colours_run), near_duplicates.load(colours_run)
    assert known is not None
    assert {name: len(rows) for name, rows in known.items()} == {k: len(v) for k, v in run.data().splits.items()}
    test = load(run.data(), "test", run.input)
    assert (known["test"] == fingerprint(test.take(np.arange(len(test))))).all()


def labelled(count: int, label: int = 0) -> NDArray[np.int64]:
    return np.full(count, label)


def test_copies_of_copies_are_one_group_and_others_are_alone() -> None:
    images = drawn(6)
    again = saved_again(images[0])[None]
    known = fingerprint(np.concatenate([images, again, saved_again(again[0])[None]]))
    sums = ["0", "1", "2", "3", "1", "5", "6", "7"]  # the fifth file is the second once more, whatever it looks like
    assert near_duplicates.groups(sums, known, labelled(8)).tolist() == [0, 1, 2, 3, 1, 5, 0, 0]


def test_the_same_shades_in_other_colours_are_no_copies() -> None:
    """Digits are bright strokes on black, and every plain image has the same hash."""
    plain = np.zeros((4, 16, 16, 3), np.uint8)
    plain[1:] += np.array([[[[200, 0, 0]]], [[[0, 102, 0]]], [[[0, 102, 2]]]], np.uint8)
    known = fingerprint(plain)
    assert (known[:, :16] == 0).all()
    assert near_duplicates.groups(list("abcd"), known, labelled(4)).tolist() == [0, 1, 2, 2]
    assert near_duplicates.nearest(known[1:2], known[:1]) == []


def test_in_a_class_of_nothing_but_lookalikes_only_the_same_file_counts() -> None:
    known = np.repeat(fingerprint(drawn(1)), 4, axis=0)
    assert near_duplicates.groups(list("abbc"), known, labelled(4)).tolist() == [0, 1, 1, 3]
    assert near_duplicates.groups(list("aaaa"), known, labelled(4)).tolist() == [0, 0, 0, 0]


def test_where_all_look_alike_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    known = np.unique(framed(2000, 0), axis=0)
    known = np.concatenate([known, np.zeros((len(known), 48), np.uint8)], axis=1)
    monkeypatch.setattr(near_duplicates, "_MOST_PAIRS", 1000)
    sums = list(map(str, range(len(known))))
    assert near_duplicates.groups(sums, known, labelled(len(known))).tolist() == list(range(len(known)))


def test_looks_say_nothing_in_a_class_that_is_mostly_of_large_groups() -> None:
    """Parts under one camera: each is another part, and a val of the odd ones alone would be no measure."""
    alike = np.zeros((12, 64), np.uint8)
    alike[:, 20] = np.arange(12)  # no two are equal
    different = np.random.default_rng(0).integers(0, 256, (8, 64), np.uint8)
    sums = [str(number) for number in range(20)]
    one_class = near_duplicates.groups(sums, np.concatenate([alike, different]), np.zeros(20, np.int64))
    assert one_class.tolist() == list(range(20))
    # where they are few they are copies, as the frames of one burst are
    few = near_duplicates.groups(sums[:12], np.concatenate([alike[:4], different]), np.zeros(12, np.int64))
    assert few.tolist() == [0, 0, 0, 0, *range(4, 12)]


def test_an_exact_copy_in_another_class_is_found_where_looks_say_nothing() -> None:
    """A hundred frames of a film, one of which stands under another class as well: that one is named, and no other."""
    frames = np.zeros((100, 64), np.uint8)
    frames[:, 20] = np.arange(100)
    others = np.random.default_rng(0).integers(0, 256, (30, 64), np.uint8)
    sums = [*(f"frame {number}" for number in range(100)), "frame 50", *(str(number) for number in range(30))]
    known = np.concatenate([frames, frames[50:51], others])
    found = near_duplicates.groups(sums, known, np.array([0] * 100 + [1] * 31))
    assert found.tolist() == [*range(100), 50, *range(101, 131)]
