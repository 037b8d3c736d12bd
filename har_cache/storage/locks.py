"""Locks of directories: one writer at a time; readers need none. A lock goes with its process, however that ends."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import FileError, HarCacheError
from .files import remove_temporaries

_LOCK = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def locked(folder: Path, whose: str, say: Callable[[str], None]) -> Iterator[bool]:
    """Keep other processes out of a folder. `whose`: what would be at work there, `extraction`, say.

    Gives whether it is locked: some network file systems have no locks, which `say` is told, and the work goes on.
    Raises FileError where another process is at work, or the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        file = _open_locked(path)
    except BlockingIOError:
        raise FileError(f"{folder}: another {whose} is at work here; wait for it, or end it") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise FileError(f"{path}: cannot be locked: {error.strerror}; choose another folder") from error
        say(f"WARNING: {folder}: its file system has no locks: see to it that no other {whose} is at work here")
        yield False
        return
    with file:
        try:
            yield True
        finally:
            with suppress(OSError):  # the folder may be gone, too
                path.unlink()  # while it is still locked: nobody else has it


@contextmanager
def alone(
    folder: Path, whose: str, say: Callable[[str], None], refused: type[HarCacheError], below: Iterable[Path] = ()
) -> Iterator[None]:
    """`locked`, without the temporaries that killed writers left in the folder and in those `below` it. Raises
    `refused` in FileError's place.
    """
    with ExitStack() as stack:
        try:
            is_locked = stack.enter_context(locked(folder, whose, say))
        except FileError as error:
            raise refused(str(error)) from error
        for directory in (folder, *below):
            remove_temporaries(directory, is_locked)
        yield


def _open_locked(path: Path) -> IO[str]:
    """The lock's file, locked. Raises BlockingIOError where another process has it, OSError where it cannot be had."""
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):  # else its last owner has just removed it
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
