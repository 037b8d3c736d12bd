"""A file over HTTP -> a file on disk that is known to be the right one, whatever happens on the way.

What has come is kept as `<name>.part` and continued: after a broken connection, after a kill, and with the next
mirror. Only a file whose sha256 is right gets the target's name; another one is kept as `<name>.rejected`. Pieces of
two versions are found by their sha256, and the file is then fetched whole. Where none is known, a piece is only added
to one that the same server gave of the same version.
"""

import contextlib
import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from ..errors import DownloadError
from ..files import place, remove_file, sync_directory
from ..progress import Progress

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "har-cache", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds to wait for the next byte, tries in a row without progress, pause before another one (doubling)."""

    timeout_s: float = 60.0
    attempts: int = 4
    pause_s: float = 2.0


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch, and its place: sha256 None takes whatever comes; more than `max_bytes` is never taken."""

    target: Path
    sha256: str | None
    max_bytes: int


class _BrokenError(Exception):
    """The connection failed or broke off: worth another try."""


class _NoAnswerError(_BrokenError):
    """There was no connection at all."""


class _UselessError(Exception):
    """This mirror does not have it."""


def fetch(urls: Sequence[str], wanted: RemoteFile, progress: Progress, retry: RetryPolicy = RetryPolicy()) -> None:
    """Have `wanted.target` from the first of `urls` that gives it, right and whole.

    Raises DownloadError naming what each of them did, or where the file cannot be written; what has come by then is
    kept, and continued next time if its sha256 is known.
    """
    part_path = _beside(wanted.target, ".part")
    try:
        part = PartialFile(wanted, part_path)
        if not part.is_proven():
            _fetch_from_any(urls, part, progress, retry)
        part.finish()
    except OSError as error:  # of the disk: those of the network are reasons to ask again, or elsewhere
        raise DownloadError(
            f"{part_path}: cannot be written: {error.strerror}; make room, and run the same command again to go on"
        ) from error


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
        rejected = _beside(self.wanted.target, ".rejected")
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


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _fetch_from_any(urls: Sequence[str], part: PartialFile, progress: Progress, retry: RetryPolicy) -> None:
    reasons = []
    for url in urls:
        part.version = ""
        try:
            _fetch_from(url, part, progress, retry)
            return
        except _UselessError as reason:
            reasons.append(f"{url}: {reason}")
            progress.say(reasons[-1])
    kept = " (what has come is kept)" if part.wanted.sha256 else ""
    raise DownloadError(
        f"{part.wanted.target.name} cannot be had ({'; '.join(reasons)}); try again later{kept}, "
        "or give a copy or a mirror with --from"
    )


def _fetch_from(url: str, part: PartialFile, progress: Progress, retry: RetryPolicy) -> None:
    # A server that ignores ranges starts from nothing each time: progress is what was never had before.
    most, failures, answered, again = part.size, 0, False, False
    while True:
        try:
            resumed = _receive(url, part, progress, retry.timeout_s)
        except _BrokenError as reason:
            answered = answered or not isinstance(reason, _NoAnswerError)
            failures = failures + 1 if part.size <= most else 0
            most = max(most, part.size)
            if failures >= retry.attempts or not answered:
                raise _UselessError(str(reason)) from None
            progress.say(f"{url}: {reason} ({part.size} bytes have come); trying again")
            time.sleep(retry.pause_s * 2 ** max(failures - 1, 0))
            continue
        if part.wanted.sha256 is None or part.is_proven():
            return
        wrong = part.reject()
        if not resumed or again:
            raise _UselessError(f"sent {wrong}")
        progress.say(f"{url}: the pieces put together are {wrong}; fetching it whole")
        again = True


class _NoFTP(urllib.request.FTPHandler):
    """urllib by itself refuses redirects to files, but not to FTP."""

    def ftp_open(self, req: urllib.request.Request) -> Any:
        raise urllib.error.URLError("leads to FTP")


def _receive(url: str, part: PartialFile, progress: Progress, timeout_s: float) -> bool:
    """Bring the part to its end; gives whether some of it was there before."""
    resumed = part.size > 0
    try:
        request = urllib.request.Request(url, headers={**_HEADERS, **part.headers()})
        response = urllib.request.build_opener(_NoFTP).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            _check_status(error, part)
        return resumed
    except TimeoutError as error:
        raise _NoAnswerError("no answer") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise _NoAnswerError(_reason(error)) from error
    with response:
        start, total = _extent(response, part)
        name = part.wanted.target.name
        with part.receiving(start, total, response.headers) as file, progress.task(name, "B", total, start):
            for chunk in _chunks(response):
                if part.size + len(chunk) > part.wanted.max_bytes:
                    raise _UselessError(f"sends more than {part.wanted.max_bytes} bytes")
                part.append(file, chunk)
                progress.advance(len(chunk))
    if total is not None and part.size != total:
        raise _BrokenError(f"broke off before {total} bytes")
    return start > 0


def _check_status(error: urllib.error.HTTPError, part: PartialFile) -> None:
    """Nothing where the server says that the part is all there is."""
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        if _content_range(error.headers)[1] == part.size:
            return
        part.clear()
        raise _BrokenError("has less than what came before; starting anew")
    if error.code in _TRANSIENT:
        raise _BrokenError(f"answers {error.code} {error.reason}")
    raise _UselessError(f"answers {error.code} {error.reason}")


def _extent(response: http.client.HTTPResponse, part: PartialFile) -> tuple[int, int | None]:
    """The byte that the response begins with, and the size of the whole file where the server tells it."""
    if response.headers.get_content_type() == "text/html":  # a login or a notice: no reason to drop the part
        raise _UselessError("sends a web page")
    start, length = 0, response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        first, total = _content_range(response.headers)
        if first != part.size:
            part.clear()
            raise _BrokenError("sends another piece than it was asked for; starting anew")
        start = part.size
    if total is not None and total > part.wanted.max_bytes:
        raise _UselessError(f"has {total} bytes, more than {part.wanted.max_bytes}")
    return start, total


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    match = _RANGE.fullmatch(headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return (int(first) if first else None), (int(total) if total and total != "*" else None)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except TimeoutError as error:
            raise _BrokenError("fell silent") from error
        except (http.client.HTTPException, OSError) as error:
            raise _BrokenError(_reason(error)) from error
        if not chunk:
            return
        yield chunk


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).lower()
