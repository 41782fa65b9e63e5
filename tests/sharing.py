"""What is made once: folders for the whole run, which all workers of pytest-xdist read, and servers for a worker's."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import coverage

from tests.serving import Server, serving

_MEASURED = "COVERAGE_PROCESS_CONFIG"  # with which coverage starts in the processes that a measured one starts


@contextmanager
def unmeasured() -> Iterator[None]:
    """Without coverage, here and in the processes that are started meanwhile."""
    measuring, settings = coverage.Coverage.current(), os.environ.pop(_MEASURED, None)
    if measuring is None or settings is None:
        yield
        return
    measuring.stop()
    try:
        yield
    finally:
        os.environ[_MEASURED] = settings
        measuring.start()


def made_once(folder: Path, write: Callable[[Path], object]) -> None:
    """`folder` is written by `write`, unless another process has or does; a `write` that fails or is killed is none."""
    made = folder.with_name(f"{folder.name}.made")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed, or this process has died
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            write(folder)
            made.touch()


class SharedFolders:
    """Folders in `root`, each made by the worker that needs it first, and as they were made ever after."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[Path, dict[Path, tuple[int, int]]] = {}

    def make(self, name: str, write: Callable[[Path], object]) -> Path:
        """The folder `name`, written by `write`, which gets the path of a folder that does not exist."""
        folder = self._root / name
        with unmeasured():
            made_once(folder, write)
        self._files[folder] = _files(folder)
        return folder

    def require_untouched(self) -> None:
        """Mode bits would not do: copies would have them too, and root does not see them."""
        for folder, files in self._files.items():
            assert _files(folder) == files, f"a test has written into {folder}, which all tests read; it must copy it"


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file in it, but for the lock of a run that is being read."""
    states = {path: path.stat() for path in folder.rglob("*") if path.name != ".lock" and path.is_file()}
    return {path: (state.st_size, state.st_mtime_ns) for path, state in states.items()}


class SharedServers:
    """Servers that run until `stack` is closed, one for each artifact and settings."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._root, self._stack = root, stack
        self._started: dict[tuple[object, ...], Server] = {}

    def serve(self, artifact: Path, **settings: object) -> Server:
        """As `serving`. For tests that leave it as it was: alive, idle, and asked of nothing but what they sent."""
        key = (artifact, *sorted(settings.items()), _MEASURED in os.environ)
        if key not in self._started or self._started[key].process.poll() is not None:
            folder = self._root / str(len(self._started))
            self._started[key] = self._stack.enter_context(serving(artifact, folder, **settings))
        return self._started[key].from_here()
