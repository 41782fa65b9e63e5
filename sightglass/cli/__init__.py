"""What do people type? The `sightglass` command."""

import importlib.util
import sys
from pathlib import Path


def _find_own_parts() -> None:
    """`app` and `training` are words that other projects use: take those beside this package, whatever the path says.

    Also in a process that multiprocessing spawns, which imports the command before what it is to run.
    """
    beside = Path(__file__).resolve().parents[2]
    for name in ("app", "training"):
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, beside / name / "__init__.py")
            assert spec and spec.loader
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)


_find_own_parts()
