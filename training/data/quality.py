"""What a run's images are, in sentences, and what is wrong: copies, two labels for one, wide ones that lose sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.console.progress import Talk
from training.console.terminal import count, shortened
from training.data.copies import near_duplicates
from training.data.copies.fingerprint import Hashes
from training.data.copies.near_duplicates import Places
from training.data.dataset import Data, Sample
from training.data.pixels import Pixels

_HALF = 0.5
_MANY = 0.1  # of the images


@dataclass(frozen=True)
class Copies:
    """Of the images of all splits, one after another: `group[i]` is the first that image i is a copy of, or i."""

    samples: tuple[Sample, ...]
    sha256: tuple[str, ...]
    group: Places

    @classmethod
    def of(cls, sets: Mapping[str, Pixels], hashes: Mapping[str, Hashes]) -> "Copies":
        """By sha256 and by looks."""
        samples = tuple(sample for split in sets.values() for sample in split.samples)
        sums = tuple(digest for split in sets.values() for digest in split.sha256)
        labels = np.concatenate([split.labels for split in sets.values()])
        return cls(samples, sums, near_duplicates.groups(sums, np.concatenate([hashes[name] for name in sets]), labels))

    def first(self) -> dict[str, str]:
        """Path of each copy -> path of the first that it is a copy of."""
        copies = np.flatnonzero(self.group != np.arange(len(self.group)))
        return {self.samples[place].path: self.samples[self.group[place]].path for place in copies}

    def two_labels(self) -> list[tuple[str, ...]]:
        """The paths of every image that stands under more labels than one, those of different labels first."""
        members: dict[int, list[Sample]] = {}
        for place in np.flatnonzero(np.bincount(self.group)[self.group] > 1):
            members.setdefault(int(self.group[place]), []).append(self.samples[place])
        found = []
        for group in members.values():
            firsts = {sample.label: sample for sample in sorted(group, reverse=True)}
            if len(firsts) > 1:
                first = sorted(firsts.values(), key=lambda sample: sample.label)
                others = [sample for sample in group if sample not in first]
                found.append(tuple(sample.path for sample in (*first, *others)))
        return found


def say_counts(data: Data, sets: Mapping[str, Pixels], skipped: Sequence[tuple[str, str]], talk: Talk) -> None:
    """What there is to learn from, what is left out of it, and which class has least."""
    labels, train_labels = data.labels, sets["train"].labels
    counts = " / ".join(f"{name} {len(split):,}" for name, split in sets.items())
    total = sum(len(split) for split in sets.values())
    classes = count(len(labels), "class", "classes")
    talk.fact("data", f"{data.source}: {count(total, 'image')}, {classes} -> {counts}")
    for sentence in data.left_out:
        talk.fact("", sentence)
    if skipped:
        files = count(len(skipped), "unreadable file")
        talk.fact("", f"skipped {files} ({skipped[0][0]}, ...), listed in the run's skipped.txt")
    per_class = {label: int((train_labels == number).sum()) for number, label in enumerate(labels)}
    smallest = min(labels, key=lambda label: per_class[label])
    talk.fact("", f'smallest class "{shortened(smallest)}": {count(per_class[smallest], "image")}')
    # classes that no figure is about: a class of one image, which is trained on, has none for val and test
    lacking: dict[tuple[str, ...], list[str]] = {}
    for split in sets.keys() - {"train"}:
        names = tuple(label for number, label in enumerate(labels) if number not in sets[split].labels)
        lacking.setdefault(names, []).append(split)
    for names, splits in sorted(lacking.items()):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        if names:
            talk.fact("", f"not an image in {' and '.join(sorted(splits, reverse=True))}: {shown}")


def say_copies(copies: Copies, sets: Mapping[str, Pixels], made: Sequence[str], talk: Talk) -> None:
    """How many there are, and on which sides; `made` are the splits that were made so that they are on one."""
    group = dict(zip([sample.path for sample in copies.samples], copies.group.tolist(), strict=True))
    groups = [group[sample.path] for name in made for sample in sets[name].samples]
    sums = [digest for name in made for digest in sets[name].sha256]
    number, same = len(groups) - len(set(groups)), len(sums) - len(set(sums))
    if number:
        kinds = f"{same:,} the same file, {number - same:,} nearly the same"
        are = "is a copy" if number == 1 else "are copies"
        talk.fact("", f"{count(number, 'image')} {are} of another ({kinds}): copies stay on one side of the split")
    names = list(sets)
    for there, here in ((there, here) for i, there in enumerate(names) for here in names[i + 1 :]):
        known, those = {group[sample.path] for sample in sets[there].samples}, set(sets[there].sha256)
        shared = sum(group[sample.path] in known for sample in sets[here].samples)
        exact = sum(digest in those for digest in sets[here].sha256)
        if shared:
            what = f"{count(shared, 'image')} of {here} {'is' if shared == 1 else 'are'} in {there} too"
            kinds = f"{exact:,} the same file, {shared - exact:,} nearly the same"
            talk.fact("warn", f"{what} ({kinds}): scores of {here} are too good")


def say_two_labels(found: Sequence[tuple[str, ...]], talk: Talk) -> None:
    """Which image stands under several labels, of which one at most is right."""
    if found:
        first = " and ".join(found[0][:2])
        more = ", ..." if len(found) > 1 else ""
        what = f"{count(len(found), 'image')} {'stands' if len(found) == 1 else 'stand'} under two labels"
        talk.fact("warn", f"{what} ({first}{more}), listed in the run's two_labels.txt")


def say_crop(kept: NDArray[np.float32], talk: Talk) -> None:
    """Where the model's aspect ratio costs a tenth of the images half of themselves or more."""
    halved = int((kept <= _HALF).sum())
    if halved >= _MANY * len(kept):
        share = f"{100 * float(np.median(kept)):.0f} %"
        talk.fact(
            "crop",
            f"the centred crop keeps {share} of an image in the median, and half or less of {halved:,} of {len(kept):,}"
            " images; --set fit=squash or --set fit=pad shows the model all of them",
        )
