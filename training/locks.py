"""One writer to a folder: a lock of the kernel's, which ends with the process that holds it, however that ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path

from training.errors import TrainingError

NAME = ".lock"  # in a run's folder: a disk of its own may be mounted there
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}  # what such filesystems answer
_TAKEN = (BlockingIOError, PermissionError)  # the second is what SMB answers
Flock = Callable[[int, int], None]


class InUse(TrainingError):
    """Another process has the folder."""

    def __init__(self, folder: Path, lock: Path) -> None:
        try:
            holder = lock.read_text().strip()
        except (OSError, UnicodeDecodeError):  # it has just ended, or SMB lets nobody else read
            holder = ""
        message = f'"{folder}" is in use by {holder or "another process"}'
        super().__init__(message, "wait for it, stop it, or name another folder")


@contextmanager
def existing(folder: Path) -> Iterator[None]:
    """`folder` is there meanwhile; of it and its parents, those that had to be made vanish if they stay empty."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for each in made:
                each.rmdir()


@contextmanager
def writing(run: Path) -> Iterator[bool]:
    """Alone with the folder `run`, which is made where there is none; False where its filesystem has no locks.

    Raises InUse.
    """
    with existing(run), held(run / NAME, run) as locked:
        yield locked


def reading(run: Path) -> AbstractContextManager[bool]:
    """`run` stays as it is meanwhile: nobody trains it. Raises InUse."""
    require_free(run)
    return held(run / NAME, run, shared=True) if os.access(run, os.W_OK) else nullcontext(False)


def require_free(folder: Path, lock: Path | None = None) -> None:
    """Raises InUse where somebody writes `folder`, a run if no `lock` is named: for before the work as well."""
    lock = lock or folder / NAME
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except _TAKEN as error:
        raise InUse(folder, lock) from error
    except OSError:  # without locks
        return
    finally:
        os.close(descriptor)


@contextmanager
def held(lock: Path, folder: Path, *, shared: bool = False, flock: Flock = fcntl.flock) -> Iterator[bool]:
    """Hold the file `lock`, which stands for `folder`, alone or `shared` with others who hold it so; False where its
    filesystem has no locks.

    The file is gone afterwards; one that a killed process left is nobody's. Raises InUse.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor, locked = acquire(lock, folder, how | fcntl.LOCK_NB, flock)
    try:
        with suppress(OSError):  # a full disk: the lock counts, not what it says
            os.ftruncate(descriptor, 0)
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
        yield locked
    finally:
        with suppress(OSError):  # others share it: the last one removes it
            if locked:
                flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink()
        os.close(descriptor)


def acquire(lock: Path, folder: Path, how: int, flock: Flock) -> tuple[int, bool]:
    """The open file, and whether it is locked: not where its filesystem has no locks. Raises InUse."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            flock(descriptor, how)
        except _TAKEN as error:
            os.close(descriptor)
            raise InUse(folder, lock) from error
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return descriptor, False
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                return descriptor, True
        os.close(descriptor)  # whoever had it removed it in between: another may have made the next one
