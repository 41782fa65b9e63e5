"""Folders of files that are called like images; listing opens none of them."""

from collections.abc import Mapping
from pathlib import Path


def grow(root: Path, counts: Mapping[str, int]) -> Path:
    """`{"train/cat": 3}` makes train/cat/000.jpg to 002.jpg, empty; 0 makes a folder, "x/y.txt" with -1 a file."""
    for path, count in counts.items():
        folder = root / path if count >= 0 else (root / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        if count < 0:
            (root / path).write_bytes(b"no image")
        for number in range(count):
            (folder / f"{number:03}.jpg").touch()
    return root
