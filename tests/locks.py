"""`make check`: every lock pins an extra wherever a package in it asks for one.

pip, given hashes, wants `coverage[toml]` pinned as `coverage[toml]==...` where pytest-cov asks for that: of a plain
`coverage==...` it thinks no more once a newer coverage exists, and the install that worked yesterday stops.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent.parent / "requirements"


def pins(lock: str) -> dict[str, set[str]]:
    """Of each pinned package the extras that are pinned with it."""
    lines = [line.removesuffix("\\") for line in lock.splitlines() if line and line[0] not in "# "]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each.extras for each in found}


def unpinned(lock: str) -> Iterator[str]:
    """A sentence for each extra that an installed package of the lock asks for and the lock does not name."""
    pinned = pins(lock)
    for name, extras in pinned.items():
        for asked in _asked(name, extras):
            missing = asked.extras - pinned.get(canonicalize_name(asked.name), set())
            if missing:
                yield f"{name} asks for {asked.name}[{','.join(sorted(missing))}], which is pinned without it"


def _asked(name: str, extras: set[str]) -> list[Requirement]:
    """What the package asks for here, with these extras of its own; nothing of one that is for other machines."""
    try:
        wanted = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return []
    return [
        each
        for each in wanted
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


if __name__ == "__main__":
    troubles = [f"{path.name}: {said}" for path in sorted(FOLDER.glob("*.txt")) for said in unpinned(path.read_text())]
    print("\n".join([*troubles, "hint: make lock"] if troubles else ["Every lock pins its extras."]))  # noqa: T201  # a command
    sys.exit(bool(troubles))
