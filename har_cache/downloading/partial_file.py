"""The beginning of a file that is being fetched, as it lies on disk whenever this process is killed."""

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO

from ..errors import DownloadError
from ..storage.files import place, remove_file, sync_directory

_CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch, and its place: sha256 None takes whatever comes; more than `max_bytes` is never taken."""

    target: Path
    sha256: str | None
    max_bytes: int


class PartialFile:
    """The file `<target>.part`: a beginning of the wanted one, whenever this process is killed. Raises OSError."""

    def __init__(self, wanted: RemoteFile, path: Path) -> None:
        self.wanted = wanted
        self.path = path
        self.size = 0  # bytes that have come
        self.version = ""  # of the file that they are a part of, as the present server names it
        self._digest = hashlib.sha256()
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._count(chunk)

    def is_proven(self) -> bool:
        """Whether it is known to be all of the wanted file."""
        return self._digest.hexdigest() == self.wanted.sha256

    def headers(self) -> dict[str, str]:
        """Request headers that ask for the rest, or for all where nothing would show that the rest fits."""
        if not self.size or not (self.wanted.sha256 or self.version):
            return {}
        condition = {"If-Range": self.version} if self.version else {}
        return {"Range": f"bytes={self.size}-", **condition}

    def receiving(self, start: int, total: int | None, headers: Message) -> IO[bytes]:
        """The file, to `append` to from byte `start` on: its end so far, or 0 to begin anew."""
        free = shutil.disk_usage(self.path.parent).free
        if total is not None and total - start > free:
            raise DownloadError(f"{self.path}: {total - start} bytes are to come, and the disk has room for {free}")
        if start == 0:
            self.clear()
        etag = headers.get("ETag", "")
        # If-Range takes no weak ETag: it names versions that are not the same in every byte.
        self.version = headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
        return self.path.open("ab")

    def append(self, file: IO[bytes], chunk: bytes) -> None:
        """Write what came next."""
        file.write(chunk)
        self._count(chunk)

    def clear(self) -> None:
        """Begin anew."""
        remove_file(self.path)
        self.size, self.version, self._digest = 0, "", hashlib.sha256()

    def reject(self) -> str:
        """Put a wrong file aside and begin anew; gives what is wrong with it."""
        rejected = beside(self.wanted.target, ".rejected")
        self.path.replace(rejected)
        sync_directory(self.path.parent)
        wrong = f"{self.size} bytes with sha256 {self._digest.hexdigest()}, not {self.wanted.sha256}"
        self.clear()
        return f"{wrong}; kept as {rejected}"

    def finish(self) -> None:
        """Give the file its name."""
        with self.path.open("ab") as file:
            place(file, self.path, self.wanted.target)
        sync_directory(self.path.parent)

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)


def beside(target: Path, ending: str) -> Path:
    """The file beside `target` of the same name and this ending."""
    return target.with_name(target.name + ending)
