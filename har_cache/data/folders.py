"""Folders of a data set, listed; one that cannot be read is one clear error."""

import os
from pathlib import Path

from ..errors import DataError


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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where we may not look: scanning it will say so
        return True
