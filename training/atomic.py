"""Files and folders that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from training import locks
from training.errors import TrainingError


class DiskFull(TrainingError):
    """There is no room for `path`, in the system's words."""

    def __init__(self, path: Path, why: str, hint: str = "make room there, or name another disk with --out") -> None:
        super().__init__(f"{why.lower()}: {path}", hint)
        self.path, self.why = path, why


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raises DiskFull where writing in here meets a full disk: the libraries' own errors name no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DiskFull(path, os.strerror(error.errno)) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Temporary name, fsync, rename: a reader or a crash never meets half a file."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with room_for(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself must reach the disk too
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def require_new(out: Path) -> None:
    """Raises TrainingError if `out` exists or is being written: for before the work as well."""
    locks.require_free(out, lock_of(out))
    if out.exists():
        raise TrainingError(f'"{out}" exists already', "name a new folder with --out")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` at the end, or vanishes.

    Raises TrainingError where there is an `out`, or another process makes it.
    """
    with room_for(out), locks.existing(out.parent), locks.held(lock_of(out), out):
        if out.exists():  # once more: another may have come and gone since `require_new`
            raise TrainingError(f'"{out}" exists already', "name a new folder with --out")
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            yield folder
            for path in folder.iterdir():  # another user may read it
                path.chmod(0o644)
            folder.chmod(0o755)
            folder.rename(out)
        except DiskFull as error:
            raise DiskFull(out, error.why) if error.path.is_relative_to(folder) else error from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def lock_of(out: Path) -> Path:
    """Whoever makes the folder `out` holds this file."""
    return out.parent / f".{out.name}{locks.NAME}"


def write(path: Path, text: str) -> None:
    """Replace `path` whole."""
    with replacing(path) as file:
        file.write(text.encode(errors="surrogateescape"))  # as Python holds file names that are no UTF-8
