"""What a data set is: labels, splits of samples, and how a sample is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Sample(NamedTuple):
    """One image: its path relative to the data's root, and the index of its label."""

    path: str
    label: int


@dataclass(frozen=True)
class Data:
    """`read` turns a sample's path into the file's bytes. A split may be absent. `left_out`: sentences about what is
    there and in no split, and about what looks wrong."""

    source: str
    labels: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    read: Callable[[str], bytes]
    left_out: tuple[str, ...] = ()
