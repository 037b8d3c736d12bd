"""HMDB51 as published -> a folder that `extract` reads: fetched, unpacked, checked, and complete or what is missing.

The split lists come first, since they name the clips. Everything that is in place stays: an interrupted run is
continued by the next one, and one that finds all clips and lists does nothing.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.hmdb51 import OFFICIAL, Archive, Edition
from ..errors import DownloadError
from ..files import file_sha256, locked, make_directory, remove_file, scratch, write_file
from ..progress import Progress
from ..settings import DownloadSettings
from .extractors import HOW_TO_GET_ONE, Extractor, find_extractors
from .fetch import Patience, fetch
from .holdings import Holdings
from .part import Wanted
from .sources import Sources, regular_files
from .unpack import BadArchiveError, Limits, incoming, unpack

ARCHIVES = "archives"
MISSING = "missing.txt"
_STAGING = ".unpacking"


@dataclass(frozen=True)
class Report:
    """What the folder holds now: `arrived` clips in this run; `missing`: keys, sorted; `problems`: lines on why."""

    classes: int = 0
    clips: int = 0
    lists: int = 0
    arrived: int = 0
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def download(
    settings: DownloadSettings,
    progress: Progress = Progress(),
    edition: Edition = OFFICIAL,
    patience: Patience = Patience(),
    limits: Limits = Limits(),
    extractors: Sequence[Extractor] | None = None,
) -> Report:
    """Complete `settings.out`; gives what it holds then, and what is missing (also in `MISSING` there).

    Raises DownloadError: an archive cannot be had or is not the published one, holds what it should not, or cannot be
    unpacked; no lists, or no clips at all; another run is at work in the folder. What was finished before is kept.
    """
    holdings = Holdings(settings.out, edition)
    if not holdings.missing_lists() and not holdings.missing_clips():
        return _report(holdings, 0, [])
    make_directory(settings.out)
    with locked(settings.out, "download"), scratch(settings.out / _STAGING) as staging:
        return _Download(settings, holdings, staging, progress, edition, patience, limits, extractors).run()


class _Download:
    def __init__(
        self,
        settings: DownloadSettings,
        holdings: Holdings,
        staging: Path,
        progress: Progress,
        edition: Edition,
        patience: Patience,
        limits: Limits,
        extractors: Sequence[Extractor] | None,
    ) -> None:
        self._settings = settings
        self._edition, self._patience, self._limits = edition, patience, limits
        self._holdings = holdings
        self._staging = staging
        self._progress = progress
        self._extractors = find_extractors() if extractors is None else extractors
        self._budget = limits.max_bytes
        self._verified: set[Path] = set()
        self._problems: list[str] = []
        self._sources = Sources(settings.mirrors, edition)

    def run(self) -> Report:
        """Lists first, then clips."""
        self._sources.check()
        if lists := self._holdings.missing_lists():
            self._complete(self._edition.lists, lists, len(self._edition.list_names))
            if lists:
                raise DownloadError(f"{len(lists)} of {len(self._edition.list_names)} lists are missing: {some(lists)}")
        clips = self._holdings.missing_clips()
        before = len(clips)
        if clips:
            self._complete(self._edition.videos, clips, self._edition.clips)
        report = _report(self._holdings, before - len(clips), self._problems)
        if not report.clips:
            raise DownloadError("; ".join(self._problems) or "no clip of HMDB51 was found in what --from names")
        _note_missing(self._settings.out / MISSING, report.missing)
        return report

    def _complete(self, archive: Archive, wanted: dict[str, Path], total: int) -> None:
        """Bring what is wanted, and take what has arrived out of `wanted`.

        Files and folders that --from names stand for the archive as soon as they hold anything of it, now or in an
        earlier run: nobody who has a copy wants 2 GB fetched for what that copy lacks without having said so.
        """
        before = len(wanted)
        for path in self._sources.local:
            if path.is_dir():
                self._take_folder(path, archive, wanted)
            elif path.name not in {self._edition.videos.name, self._edition.lists.name} - {archive.name}:
                self._take_archive(path, wanted)
        held = len(wanted) < before or (self._sources.local and len(wanted) < total)
        if not held or (len(wanted) == before and self._sources.urls_given(archive)):
            self._take_archive(self._fetched(archive), wanted)

    def _fetched(self, archive: Archive) -> Path:
        """The archive, from before or from the first mirror that has it."""
        if self._sources.local:
            self._progress.say(f"{archive.name}: nothing of it is in what --from names; looking for it elsewhere")
        if not self._extractors:
            self._progress.say(f"No program that unpacks compressed RARs is here; {HOW_TO_GET_ONE}")
        target = self._settings.out / ARCHIVES / archive.name
        make_directory(target.parent)
        sha256 = None if self._settings.unverified else archive.sha256
        if target.exists():
            if sha256 in (None, file_sha256(target)):
                self._verified.add(target)
                return target
            self._progress.say(f"{target}: not what was published; kept as {target.name}.rejected")
            target.replace(target.with_name(f"{target.name}.rejected"))
        fetch(
            self._sources.urls(archive),
            Wanted(target, sha256, archive.max_bytes),
            self._progress,
            self._patience,
        )
        self._verified.add(target)
        return target

    def _take_archive(self, path: Path, wanted: dict[str, Path]) -> None:
        self._check_published(path)
        nested = {f"{name}.rar": self._staging / f"{name}.rar" for name in self._classes_of(wanted)}
        with self._counting(wanted):
            for arrived in self._unpack(path, {**wanted, **nested}):
                if arrived.name in nested:
                    self._budget -= arrived.stat().st_size
                    self._take_class(arrived, wanted)
                    arrived.unlink()
                else:
                    self._book(arrived, wanted)

    def _take_class(self, path: Path, wanted: dict[str, Path]) -> None:
        """The clips of one class, from its own archive. One that is bad costs that class."""
        class_of, class_name = self._holdings.class_of, path.stem
        own = {name: place for name, place in wanted.items() if class_of[name] == class_name}
        try:
            for arrived in self._unpack(path, own):
                self._book(arrived, wanted)
        except BadArchiveError as error:
            self._problems.append(str(error))
            self._progress.say(str(error))

    def _unpack(self, path: Path, wanted: Mapping[str, Path]) -> Iterator[Path]:
        limits = replace(self._limits, max_bytes=self._budget)
        if wanted:
            yield from unpack(path, wanted, self._staging, limits, self._extractors)

    def _book(self, arrived: Path, wanted: dict[str, Path]) -> None:
        del wanted[arrived.name]
        self._budget -= arrived.stat().st_size
        self._progress.advance(1)

    def _take_folder(self, folder: Path, archive: Archive, wanted: dict[str, Path]) -> None:
        """Copies of what lies in a folder, at whatever depth; then what is in the archives there."""
        nested = {f"{name}.rar" for name in self._classes_of(wanted)}
        archives = []
        with self._counting(wanted):
            for path in regular_files(folder, _STAGING):
                if path.name in wanted:
                    with path.open("rb") as source, incoming(self._staging, wanted[path.name]) as target:
                        shutil.copyfileobj(source, target)
                    self._book(wanted[path.name], wanted)
                elif path.name in nested or path.name == archive.name:
                    archives.append(path)
            for path in archives:
                if path.name in nested:
                    self._take_class(path, wanted)
        for path in archives:
            if path.name not in nested and wanted:
                self._take_archive(path, wanted)

    def _check_published(self, path: Path) -> None:
        published = {self._edition.videos.sha256, self._edition.lists.sha256}
        if self._settings.unverified or path in self._verified:
            return
        if (sha256 := file_sha256(path)) not in published:
            raise DownloadError(
                f"{path}: none of the published archives (its sha256 is {sha256}); "
                "--unverified takes it, and checks what is in it"
            )
        self._verified.add(path)

    def _classes_of(self, wanted: Mapping[str, Path]) -> set[str]:
        return {path.parent.name for path in wanted.values()} & set(self._edition.classes)

    @contextmanager
    def _counting(self, wanted: Mapping[str, Path]) -> Iterator[None]:
        """Progress of what is wanted; at the end it is on the disk."""
        self._progress.begin("Unpacking", "file", len(wanted))
        try:
            yield
        finally:
            self._progress.close()
            os.sync()  # once: an fsync of each of 6,766 files takes longer than to unpack them


def some(names: Collection[str], count: int = 10) -> str:
    """The first few of the names, and how many more there are."""
    first = ", ".join(sorted(names)[:count])
    return first if len(names) <= count else f"{first} and {len(names) - count} more"


def _note_missing(path: Path, missing: Sequence[str]) -> None:
    if missing:
        write_file(path, "".join(f"{key}\n" for key in missing).encode())
    else:
        remove_file(path)


def _report(holdings: Holdings, arrived: int, problems: list[str]) -> Report:
    edition, missing = holdings.edition, holdings.missing_clips()
    return Report(
        classes=len({name for file, name in holdings.class_of.items() if file not in missing}),
        clips=edition.clips - len(missing),
        lists=len(edition.list_names),
        arrived=arrived,
        missing=tuple(sorted(f"{holdings.class_of[name]}/{name}" for name in missing)),
        problems=tuple(problems),
    )
