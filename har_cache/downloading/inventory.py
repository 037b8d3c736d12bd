"""Inventory of an HMDB51 folder: the clips and lists that it holds, and those that are missing.

The split lists name every clip, so they say what a complete copy is.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..data.hmdb51 import LIST_FOLDER, VIDEO_FOLDER, Release, list_name, parse_tags
from ..data.splits import read_list
from ..errors import DownloadError
from ..settings.names import SPLITS

_REPLACE = "remove the lists, and run the same command again"


@dataclass(frozen=True)
class Inventory:
    """A folder that is to hold a release: the clips below `VIDEO_FOLDER`, the lists in `LIST_FOLDER`."""

    root: Path
    release: Release

    def missing_lists(self) -> dict[str, Path]:
        """File name and place of each split list that is not there."""
        folder = self.root / LIST_FOLDER
        present = _files(folder)
        return {name: folder / name for name in self.release.list_names if name not in present}

    def missing_clips(self) -> dict[str, Path]:
        """File name and place of each clip that is not there. Raises DownloadError as `class_of` does."""
        folder = self.root / VIDEO_FOLDER
        present = {name: _files(folder / name) for name in self.release.classes}
        return {
            name: folder / class_name / name
            for name, class_name in self.class_of.items()
            if name not in present[class_name]
        }

    @cached_property
    def class_of(self) -> dict[str, str]:
        """The class of each clip, by file name, as the lists have it.

        Raises DownloadError where the lists are not those of the release, or DataError where one cannot be read.
        """
        folder = self.root / LIST_FOLDER
        classes: dict[str, str] = {}
        for class_name in self.release.classes:
            for path in (folder / list_name(class_name, split) for split in SPLITS):
                for name in read_list(path):
                    if parse_tags(class_name, name) is None or classes.setdefault(name, class_name) != class_name:
                        raise DownloadError(f"{path}: {name!r:.200} is no clip of this class; {_REPLACE}")
        if len(classes) != self.release.clips:
            raise DownloadError(f"{folder}: the lists name {len(classes)} clips, not {self.release.clips}; {_REPLACE}")
        return classes


def _files(folder: Path) -> frozenset[str]:
    """The regular files in a folder that are not empty: a crash of the machine may leave empty ones."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(
                entry.name for entry in entries if entry.is_file(follow_symlinks=False) and entry.stat().st_size
            )
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be read: {error.strerror}; check path and permissions") from error
