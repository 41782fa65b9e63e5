"""Train, val and test out of one heap: copies stay on one side, and the shares are kept all the same."""

from collections import Counter

import pytest

from training.data.dataset import Data, Sample
from training.data.splits import require_shares, split
from training.errors import TrainingError


def data(**counts: int) -> Data:
    """So many images of each class; nothing is read."""
    labels = tuple(sorted(counts))
    samples = [Sample(f"{name}/{k:03}", number) for number, name in enumerate(labels) for k in range(counts[name])]
    return Data("drawn", labels, {"all": tuple(samples)}, lambda _: b"")


def sides(found: Data) -> dict[str, str]:
    return {sample.path: name for name, samples in found.splits.items() for sample in samples}


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_on_one_side_and_the_shares_are_kept(seed: int) -> None:
    copies = {f"{name}/{k:03}": f"{name}/{k - k % 3:03}" for name in ("cat", "dog") for k in range(90)}
    copies |= {"dog/000": "cat/000", "dog/001": "cat/000", "dog/002": "cat/000"}
    found = split(data(cat=90, dog=90), 0.1, 0.1, seed, copies)
    side = sides(found)
    assert len(side) == 180
    assert all(side[path] == side[first] for path, first in copies.items())
    for name in ("val", "test"):
        assert 15 <= len(found.splits[name]) <= 21
        assert set(Counter(sample.label for sample in found.splits[name])) == {0, 1}


def test_without_copies_the_seed_gives_what_it_always_gave() -> None:
    """The runs of docs/training.md and docs/results.md can be repeated."""
    found = split(data(cat=20, dog=20), 0.1, 0.1, 0)
    assert [sample.path for sample in found.splits["val"]] == ["cat/002", "cat/011", "dog/004", "dog/018"]
    assert [sample.path for sample in found.splits["test"]] == ["cat/004", "cat/019", "dog/011", "dog/016"]


def test_val_is_carved_from_train_around_the_copies() -> None:
    whole = data(cat=40, dog=40)
    train = Data("drawn", whole.labels, {"train": whole.splits["all"]}, whole.read)
    copies = {f"cat/{k:03}": "cat/000" for k in range(20)}
    side = sides(split(train, 0.1, 0.1, 0, copies))
    assert {side[f"cat/{k:03}"] for k in range(20)} == {"train"}, "they do not fit into val"
    assert Counter(side.values()) == {"train": 72, "val": 8}


def test_a_class_of_copies_of_one_image_gives_none() -> None:
    side = sides(split(data(cat=10, dog=10), 0.1, 0.1, 0, {f"cat/{k:03}": "cat/000" for k in range(10)}))
    assert {side[f"cat/{k:03}"] for k in range(10)} == {"train"}
    assert Counter(side.values()) == {"train": 18, "val": 1, "test": 1}


def test_nothing_but_copies_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no images are left to validate on"):
        split(data(cat=5), 0.1, 0.1, 0, {f"cat/{k:03}": "cat/000" for k in range(5)})


@pytest.mark.parametrize(("val", "test", "said"), [(0, 0.1, "left to validate on"), (0.5, 0.5, "leave no train split")])
def test_impossible_shares_are_refused_before_anything_is_read(val: float, test: float, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        require_shares(data(cat=5, dog=5), val, test)
