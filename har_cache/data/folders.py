"""Folders and lists of a data set, as they are on disk; one that cannot be read is one clear error."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError

# What a clip in a folder is named; a file in a list may be named otherwise.
VIDEO_SUFFIXES = tuple(".avi .mp4 .mkv .webm .mov .m4v .mpg .mpeg .ts .wmv .asf .flv .3gp .ogv".split())  # noqa: SIM905


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """All entries but hidden ones. Raises DataError where the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}; check path and permissions") from error


def folders(parent: Path) -> set[str]:
    """The names of the folders in a folder. Raises DataError."""
    return {entry.name for entry in scan(parent) if _is_folder(entry)}


def inside(parent: Path, *names: str) -> list[Path]:
    """Those folders that are there, in this order. Raises DataError."""
    present = folders(parent)
    return [parent / name for name in names if name in present]


def read_text(path: Path) -> str:
    """The text of a list, less a byte order mark. Raises DataError where it cannot be read, or is no UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path} as UTF-8 text: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a list that are not blank, each with its file and number, in words. Raises as `read_text`."""
    # Not splitlines(): it also breaks at characters that a file name may contain.
    for count, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {count}", line


def is_clip(entry: os.DirEntry[str]) -> bool:
    """Whether a file can be a clip, by its name: it is not opened."""
    if not entry.name.lower().endswith(VIDEO_SUFFIXES) or printable(entry.name) != entry.name:
        return False
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a dangling link, say: a clip that cannot be decoded, and is counted as such
        return True


def printable(name: str) -> str:
    """Escape what is not UTF-8. A name that this changes cannot be part of a key."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where we may not look: scanning it will say so
        return True
