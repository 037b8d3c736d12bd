"""HMDB51 as published -> a folder that `extract` reads: fetched, unpacked, checked, and complete or what is missing.

The split lists come first, since they name the clips. Everything that is in place stays: an interrupted run is
continued by the next one, and one that finds all clips and lists does nothing.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..data.hmdb51 import OFFICIAL, Archive, Release
from ..errors import DownloadError
from ..progress import Progress
from ..settings.tools import DownloadSettings
from ..storage.files import file_sha256, make_directory, remove_file, scratch, write_file
from ..storage.locks import locked
from ..storage.parsing import fields_to_json_types
from .fetch import RemoteFile, RetryPolicy, fetch
from .inventory import Inventory
from .unpack import HOW_TO_GET_ONE, BadArchiveError, Extractor, Limits, find_extractors, incoming, unpack

ARCHIVES = "archives"
MISSING = "missing.txt"
_STAGING = ".unpacking"


@dataclass(frozen=True)
class Means:
    """Means without an option: the release, when to try again, limits of archives, and programs that unpack."""

    release: Release = OFFICIAL
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    extractors: Sequence[Extractor] = field(default_factory=find_extractors)


@dataclass(frozen=True)
class DownloadReport:
    """Contents of the folder now: `arrived` clips in this run; `missing`: keys, sorted; `problems`: lines on why."""

    classes: int = 0
    clips: int = 0
    lists: int = 0
    arrived: int = 0
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        there = f"{self.classes} classes, {self.clips} clips, {self.lists} split lists"
        return f"DownloadReport({there}; {len(self.missing)} clips missing)"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return fields_to_json_types(self)


def download(settings: DownloadSettings, progress: Progress = Progress(), means: Means | None = None) -> DownloadReport:
    """Complete `settings.out`; gives what it holds then, and what is missing (also in `MISSING` there).

    Raises DownloadError: an archive cannot be had or is not the published one, holds what it should not, or cannot be
    unpacked; no lists, or no clips at all. Raises FileError: another run is at work in the folder, or it cannot be
    read or written. What was finished before is kept.
    """
    means = means or Means()
    inventory = Inventory(settings.out, means.release)
    if not inventory.missing_lists() and not inventory.missing_clips():
        return _report(inventory)
    make_directory(settings.out)
    with locked(settings.out, "download", progress.say), scratch(settings.out / _STAGING) as staging:
        try:
            return _Download(settings, progress, means, staging).run()
        except OSError as error:
            where = error.filename or settings.out
            raise DownloadError(f"{where}: {error.strerror}; check path, permissions and disk") from error
        finally:
            os.sync()  # once: an fsync of each of 6,766 files takes longer than to unpack them


class _Download:
    """One run: what is still wanted is a dictionary of file names and places, that shrinks as files arrive."""

    def __init__(self, settings: DownloadSettings, progress: Progress, means: Means, staging: Path) -> None:
        self._settings = settings
        self._progress = progress
        self._means = means
        self._staging = staging
        self._release = means.release
        self._inventory = Inventory(settings.out, means.release)
        self._urls = [place for place in settings.mirrors if place.startswith(("http://", "https://"))]
        self._local = [Path(place) for place in settings.mirrors if place not in self._urls]
        self._budget = means.limits.max_bytes
        self._problems: list[str] = []

    def run(self) -> DownloadReport:
        """Lists first, then clips."""
        for path in self._local:
            if not path.exists():
                raise DownloadError(f"{path}: not found; --from takes an archive, a folder, or an http(s) URL")
        lists, total = self._inventory.missing_lists(), len(self._release.list_names)
        if lists:
            self._complete(self._release.lists, lists, total)
        if lists:
            raise DownloadError(f"{len(lists)} of {total} lists are missing: {some(lists)}")
        clips = self._inventory.missing_clips()
        before = len(clips)
        if clips:
            self._complete(self._release.videos, clips, self._release.clips)
        report = _report(self._inventory, before - len(clips), self._problems)
        if not report.clips:
            raise DownloadError("; ".join(self._problems) or "no clip of HMDB51 was found in what --from names")
        if report.missing:
            write_file(self._settings.out / MISSING, "".join(f"{key}\n" for key in report.missing).encode())
        else:
            remove_file(self._settings.out / MISSING)
        return report

    def _complete(self, archive: Archive, wanted: dict[str, Path], total: int) -> None:
        """Bring what is wanted, and take what has arrived out of `wanted`.

        Files and folders that --from names stand for the archive as soon as they hold anything of it, now or in an
        earlier run: nobody who has a copy wants 2 GB fetched for what that copy lacks without having said so.
        """
        before = len(wanted)
        for path in self._local:
            if path.is_dir():
                self._take_folder(path, archive, wanted)
            elif path.name not in {self._release.videos.name, self._release.lists.name} - {archive.name}:
                self._take_copy(path, wanted)
        urls = [url for given in self._urls if (url := self._url_of(given, archive))]
        held = len(wanted) < before or (self._local and len(wanted) < total)
        if not held or (len(wanted) == before and urls):
            published = [mirror + archive.name for mirror in self._release.mirrors]
            self._take_archive(self._fetched(archive, urls or published), wanted)

    def _url_of(self, url: str, archive: Archive) -> str | None:
        """Where `url` has the archive. One that names an archive has that one, any other is a folder with both."""
        lists, videos = self._release.lists, self._release.videos
        if not urlsplit(url).path.endswith(".rar") and lists.name not in url and videos.name not in url:
            return f"{url.rstrip('/')}/{archive.name}"
        return url if ("split" in url.rpartition("/")[2]) == (archive == lists) else None

    def _fetched(self, archive: Archive, urls: Sequence[str]) -> Path:
        """The archive, from before or from the first of the URLs that gives it."""
        if self._local:
            self._progress.say(f"{archive.name}: nothing of it is in what --from names; looking for it elsewhere")
        if not self._means.extractors:
            self._progress.say(f"No program that unpacks compressed RARs is here; {HOW_TO_GET_ONE}")
        target = self._settings.out / ARCHIVES / archive.name
        make_directory(target.parent)
        sha256 = None if self._settings.unverified else archive.sha256
        if target.exists():
            if sha256 in (None, file_sha256(target)):
                return target
            self._progress.say(f"{target}: not what was published; kept as {target.name}.rejected")
            target.replace(target.with_name(f"{target.name}.rejected"))
        remote = RemoteFile(target, sha256, archive.max_bytes)
        fetch(urls, remote, self._progress, self._means.retry)
        return target

    def _take_copy(self, path: Path, wanted: dict[str, Path]) -> None:
        """Unpack an archive that --from names or holds."""
        published = (self._release.videos.sha256, self._release.lists.sha256)
        if not self._settings.unverified and (sha256 := file_sha256(path)) not in published:
            raise DownloadError(
                f"{path}: none of the published archives (its sha256 is {sha256}); "
                "--unverified takes it, and checks what is in it"
            )
        self._take_archive(path, wanted)

    def _take_archive(self, path: Path, wanted: dict[str, Path]) -> None:
        nested = {name: self._staging / name for name in self._class_archives(wanted)}
        with self._progress.task("Unpacking", "file", len(wanted)):
            for arrived in self._unpack(path, {**wanted, **nested}):
                if arrived.name in nested:
                    self._budget -= arrived.stat().st_size
                    self._take_class(arrived, wanted)
                    arrived.unlink()
                else:
                    self._count(arrived, wanted)

    def _take_class(self, path: Path, wanted: dict[str, Path]) -> None:
        """The clips of one class, from its own archive. One that is bad costs that class."""
        own = {name: place for name, place in wanted.items() if place.parent.name == path.stem}
        try:
            for arrived in self._unpack(path, own):
                self._count(arrived, wanted)
        except BadArchiveError as error:
            self._problems.append(str(error))
            self._progress.say(str(error))

    def _unpack(self, path: Path, wanted: Mapping[str, Path]) -> Iterator[Path]:
        limits = replace(self._means.limits, max_bytes=self._budget)
        if wanted:
            yield from unpack(path, wanted, self._staging, limits, self._means.extractors)

    def _count(self, arrived: Path, wanted: dict[str, Path]) -> None:
        del wanted[arrived.name]
        self._budget -= arrived.stat().st_size
        self._progress.advance(1)

    def _take_folder(self, folder: Path, archive: Archive, wanted: dict[str, Path]) -> None:
        """Copies of what lies in a folder, at whatever depth; then what is in the archives there."""
        nested = self._class_archives(wanted)
        archives = []
        with self._progress.task("Unpacking", "file", len(wanted)):
            for path in _regular_files(folder):
                if path.name in wanted:
                    with path.open("rb") as copy, incoming(self._staging, wanted[path.name]) as target:
                        shutil.copyfileobj(copy, target)
                    self._count(wanted[path.name], wanted)
                elif path.name in nested or path.name == archive.name:
                    archives.append(path)
            for path in archives:
                if path.name in nested:
                    self._take_class(path, wanted)
        for path in archives:
            if path.name not in nested and wanted:
                self._take_copy(path, wanted)

    def _class_archives(self, wanted: Mapping[str, Path]) -> set[str]:
        """The names of the archives inside the archive of videos that hold wanted clips."""
        return {f"{name}.rar" for name in {path.parent.name for path in wanted.values()} & set(self._release.classes)}


def some(names: Collection[str], count: int = 10) -> str:
    """The first few of the names, and how many more there are."""
    first = ", ".join(sorted(names)[:count])
    return first if len(names) <= count else f"{first} and {len(names) - count} more"


def _regular_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not empty, but for those being unpacked; no link is followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {_STAGING})
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                yield path


def _report(inventory: Inventory, arrived: int = 0, problems: Sequence[str] = ()) -> DownloadReport:
    release, class_of, missing = inventory.release, inventory.class_of, inventory.missing_clips()
    return DownloadReport(
        classes=len({name for file, name in class_of.items() if file not in missing}),
        clips=release.clips - len(missing),
        lists=len(release.list_names),
        arrived=arrived,
        missing=tuple(sorted(f"{class_of[name]}/{name}" for name in missing)),
        problems=tuple(problems),
    )
