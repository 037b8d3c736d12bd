"""What `--from` names: archives and folders that are here, and URLs that may have the archives."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..data.hmdb51 import Archive, Edition
from ..errors import DownloadError


@dataclass(frozen=True)
class Sources:
    """`given`: paths and URLs as the user wrote them, in order."""

    given: tuple[str, ...]
    edition: Edition

    @property
    def local(self) -> list[Path]:
        """The paths among them."""
        return [Path(source) for source in self.given if not _is_url(source)]

    def check(self) -> None:
        """Raises DownloadError where a path does not exist."""
        for path in self.local:
            if not path.exists():
                raise DownloadError(f"{path}: not found; --from takes an archive, a folder, or an http(s) URL")

    def urls(self, archive: Archive) -> list[str]:
        """Where to fetch an archive: from the URLs that were given for it, or from where it is published."""
        return self.urls_given(archive) or [mirror + archive.name for mirror in self.edition.mirrors]

    def urls_given(self, archive: Archive) -> list[str]:
        """Those of the user's URLs that may have the archive."""
        return [url for source in self.given if _is_url(source) and (url := self._url_of(source, archive))]

    def _url_of(self, source: str, archive: Archive) -> str | None:
        """Where `source` has the archive. One that names an archive has that one, any other is a folder with both."""
        lists, videos = self.edition.lists, self.edition.videos
        if not urlsplit(source).path.endswith(".rar") and lists.name not in source and videos.name not in source:
            return f"{source.rstrip('/')}/{archive.name}"
        return source if ("split" in source.rpartition("/")[2]) == (archive == lists) else None


def regular_files(folder: Path, without: str) -> Iterator[Path]:
    """All files below a folder that are not empty, but for those in folders named `without`; no link is followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {without})
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                yield path


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))
