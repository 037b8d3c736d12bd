"""What has come so far of a file that is being fetched, and whether it is the right one."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from ..errors import DownloadError
from ..files import place, remove_file, sync_directory, write_file

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """What is fetched: sha256 None takes whatever comes; more than `max_bytes` is never taken."""

    target: Path
    sha256: str | None
    max_bytes: int


class Part:
    """The file `<target>.part`, and beside it which version of which URL it is a part of.

    A kill at any moment leaves a beginning of the file. Whatever cannot be written is a DownloadError.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._path = _beside(wanted.target, ".part")
        self._notes_path = _beside(wanted.target, ".part.json")
        self._notes = self._read_notes()
        self._digest = hashlib.sha256()
        self.size = 0  # bytes that have come
        with _writable(self._path), contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._count(chunk)

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, as far as the server said."""
        total = self._notes.get("total")
        return total if isinstance(total, int) else None

    def headers(self, url: str) -> dict[str, str]:
        """What to ask `url` for, to go on: the rest, and if it still has the same version as before, no less."""
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        if self._notes.get("url") == url and self._notes.get("version"):
            headers["If-Range"] = str(self._notes["version"])
        return headers

    @contextmanager
    def receiving(self, url: str, start: int, total: int | None, headers: Message) -> Iterator[IO[bytes]]:
        """The file, to `append` to from byte `start` on: its end so far, or 0 to begin anew."""
        etag = headers.get("ETag", "")
        version = headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag  # a weak one may not do
        free = shutil.disk_usage(self._path.parent).free
        if total is not None and total - start > free:
            raise DownloadError(f"{self._path}: {total - start} bytes are to come, and the disk has room for {free}")
        if start == 0:
            self.clear()
        self._notes = {"url": url, "version": version, "total": total}
        write_file(self._notes_path, json.dumps(self._notes).encode())
        with _writable(self._path), self._path.open("ab") as file:
            yield file

    def append(self, file: IO[bytes], chunk: bytes) -> None:
        """Write what came next."""
        file.write(chunk)
        self._count(chunk)

    def clear(self) -> None:
        """Begin anew."""
        remove_file(self._path)
        remove_file(self._notes_path)
        self._notes, self.size, self._digest = {}, 0, hashlib.sha256()

    def accept(self) -> str:
        """Give a right file its name; say what is wrong with another one, which is then kept as `.rejected`."""
        sha256 = self._digest.hexdigest()
        with _writable(self._path):
            if self.wanted.sha256 in (None, sha256):
                with self._path.open("ab") as file:
                    place(file, self._path, self.wanted.target)
                wrong = ""
            else:
                rejected = _beside(self.wanted.target, ".rejected")
                self._path.replace(rejected)
                wrong = f"{self.size} bytes with sha256 {sha256}, not {self.wanted.sha256}; kept as {rejected}"
            sync_directory(self._path.parent)
        self.clear()
        return wrong

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)

    def _read_notes(self) -> dict[str, Any]:
        try:
            notes = json.loads(self._notes_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{path}: cannot be written: {error.strerror}; make room, and run the same command again to go on"
        ) from error
