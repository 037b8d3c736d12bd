"""A folder that one run has for itself, and a place for what is not finished."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DownloadError
from .files import make_directory


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder; the lock goes with the process, however it ends.

    Raises DownloadError where another run is at work, or nothing can be locked.
    """
    path = folder / ".lock"
    try:
        file = path.open("w")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DownloadError(f"{folder}: another download is at work here; wait for it, or end it") from None
    except OSError as error:
        raise DownloadError(f"{path}: cannot be locked: {error.strerror}; choose another folder") from error
    with file:
        yield


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty folder, gone at the end, or cleared by the next run where this one is killed."""
    try:
        shutil.rmtree(path, ignore_errors=True)
        make_directory(path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
