"""What do people type? The `sightglass` command."""

import sys
from importlib.util import find_spec
from pathlib import Path


def _find_own_parts() -> None:
    """`app` and `training` are words that other projects use: where theirs hide ours, ours come first.

    On the path and not in sys.modules, because a worker that is spawned inherits the path alone.
    """
    beside = Path(__file__).resolve().parents[2]
    found = [find_spec(name) for name in ("app", "training")]
    if not all(spec and spec.origin and Path(spec.origin).is_relative_to(beside) for spec in found):
        sys.path.insert(0, str(beside))


_find_own_parts()
