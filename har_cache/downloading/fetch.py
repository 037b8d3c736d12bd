"""A file over HTTP -> a file on disk that is known to be the right one, whatever happens on the way.

What has come is kept as `<name>.part` and continued: after a broken connection, after a kill, and with the next
mirror. Only a file whose sha256 is right gets the target's name; another one is kept as `<name>.rejected`. Pieces of
two versions are found by their sha256, and the file is then fetched whole. Where none is known, a piece is only added
to one that the same server gave of the same version.
"""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message

from ..errors import DownloadError
from ..progress import Progress
from ..texts import printable
from .connection import Pace, open_url
from .partial_file import PartialFile, RemoteFile, beside

_CHUNK = 1 << 18
_MOST_DIGITS = 18
_MOST_SHOWN = 120  # characters of what a server says
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "har-cache", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds to wait for the next byte, tries in a row without progress, pause before another one (doubling).

    Progress: `least_bytes`. A connection has to bring as many every `window_s` seconds: by default, 1 KiB a second over
    a minute, at which HMDB51 would take 24 days.
    """

    timeout_s: float = 60.0
    attempts: int = 4
    pause_s: float = 2.0
    window_s: float = 60.0
    least_bytes: int = 60 << 10


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
    part_path = beside(wanted.target, ".part")
    try:
        part = PartialFile(wanted, part_path)
        if not part.is_proven():
            _fetch_from_any(urls, part, progress, retry)
        part.finish()
    except OSError as error:  # of the disk: those of the network are reasons to ask again, or elsewhere
        raise DownloadError(
            f"{part_path}: cannot be written: {error.strerror}; make room, and run the same command again to go on"
        ) from error


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
            resumed = _receive(url, part, progress, retry)
        except _BrokenError as reason:
            answered = answered or not isinstance(reason, _NoAnswerError)
            failures = failures + 1 if part.size < most + retry.least_bytes else 0
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


def _receive(url: str, part: PartialFile, progress: Progress, retry: RetryPolicy) -> bool:
    """Bring the part to its end; gives whether some of it was there before."""
    resumed, pace = part.size > 0, Pace(retry.window_s, retry.least_bytes)
    try:
        request = urllib.request.Request(url, headers={**_HEADERS, **part.headers()})
        response = open_url(request, retry.timeout_s, pace)
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
                pace.count(len(chunk))
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
        raise _BrokenError(_shown(f"answers {error.code} {error.reason}"))
    raise _UselessError(_shown(f"answers {error.code} {error.reason}"))


def _extent(response: http.client.HTTPResponse, part: PartialFile) -> tuple[int, int | None]:
    """The byte that the response begins with, and the size of the whole file where the server tells it."""
    if response.headers.get_content_type() == "text/html":  # a login or a notice: no reason to drop the part
        raise _UselessError("sends a web page")
    start, total = 0, _size(response.headers.get("Content-Length", ""))
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
    return _size(first or ""), _size(total or "")


def _size(text: str) -> int | None:
    """The number of bytes in a header; None where it is none."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > _MOST_DIGITS:
        raise _UselessError(f"announces a size of {len(text)} digits")
    return int(text)


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
    return _shown((getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).lower())


def _shown(text: str) -> str:
    """What a server says, as it can be shown: it may be long, and say anything."""
    return text if len(text := printable(text)) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
