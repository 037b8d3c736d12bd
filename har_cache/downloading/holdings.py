"""What of HMDB51 a folder holds, and what it lacks.

The split lists name every clip, so they say what a complete copy is.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..data.hmdb51 import Edition, parse_tags
from ..data.index import read_list
from ..errors import DownloadError

VIDEO_FOLDER = "hmdb51_org"
LIST_FOLDER = "testTrainMulti_7030_splits"


@dataclass(frozen=True)
class Holdings:
    """A folder that is to hold an edition: the clips below `hmdb51_org`, the lists in `testTrainMulti_7030_splits`."""

    root: Path
    edition: Edition

    def missing_lists(self) -> dict[str, Path]:
        """File name and place of each split list that is not there."""
        folder = self.root / LIST_FOLDER
        return {name: folder / name for name in self.edition.list_names if name not in _files(folder)}

    def missing_clips(self) -> dict[str, Path]:
        """File name and place of each clip that is not there. Raises DownloadError as `class_of` does."""
        present = {name: _files(self.root / VIDEO_FOLDER / name) for name in self.edition.classes}
        return {
            name: self.root / VIDEO_FOLDER / class_name / name
            for name, class_name in self.class_of.items()
            if name not in present[class_name]
        }

    @cached_property
    def class_of(self) -> dict[str, str]:
        """The class of each clip, by file name, as the lists have it.

        Raises DownloadError where the lists are not those of the edition, or DataError where one cannot be read.
        """
        folder = self.root / LIST_FOLDER
        classes: dict[str, str] = {}
        for list_name in self.edition.list_names:
            class_name = list_name.rpartition("_test_split")[0]
            for name in read_list(folder / list_name):
                if parse_tags(class_name, name) is None or classes.setdefault(name, class_name) != class_name:
                    raise DownloadError(f"{folder / list_name}: {name!r:.200} is no clip of this class; {_REPLACE}")
        if len(classes) != self.edition.clips:
            raise DownloadError(f"{folder}: the lists name {len(classes)} clips, not {self.edition.clips}; {_REPLACE}")
        return classes


_REPLACE = "remove the lists, and run the same command again"


def _files(folder: Path) -> frozenset[str]:
    """The regular files in a folder that are not empty: a crash of the machine may leave empty ones."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(_filled(entries))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be read: {error.strerror}; check path and permissions") from error


def _filled(entries: Iterable["os.DirEntry[str]"]) -> Iterable[str]:
    return (entry.name for entry in entries if entry.is_file(follow_symlinks=False) and entry.stat().st_size)
