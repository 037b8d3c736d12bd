"""A file over HTTP -> a file on disk that is known to be the right one, whatever happens on the way.

What has come is kept as `<name>.part` and continued: after a broken connection, after a kill, and with the next
mirror. Only a file whose sha256 is right gets the target's name; another one is kept as `<name>.rejected`.
"""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message

from ..errors import DownloadError
from ..progress import Progress
from .part import Part, Wanted

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "har-cache", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Patience:
    """How long to wait: for the next byte, how often in a row without progress, and before another try (doubling)."""

    timeout_s: float = 60.0
    attempts: int = 4
    pause_s: float = 2.0


class _BrokenError(Exception):
    """The connection failed or broke off: worth another try."""


class _NoAnswerError(_BrokenError):
    """There was no connection at all."""


class _UselessError(Exception):
    """This mirror does not have it."""


def fetch(urls: Sequence[str], wanted: Wanted, progress: Progress, patience: Patience = Patience()) -> None:
    """Have `wanted.target` from the first of `urls` that gives it, right and whole.

    Raises DownloadError naming what each of them did; what has come by then is kept and continued next time.
    """
    part = Part(wanted)
    if part.size and part.size == part.total and not part.accept():
        return
    reasons = []
    for url in urls:
        try:
            _fetch_from(url, part, progress, patience)
            return
        except _UselessError as reason:
            reasons.append(f"{url}: {reason}")
            progress.say(reasons[-1])
        finally:
            progress.close()
    raise DownloadError(
        f"{wanted.target.name} cannot be had ({'; '.join(reasons)}); try again later (what has come is kept), "
        "or give a copy or a mirror with --from"
    )


def _fetch_from(url: str, part: Part, progress: Progress, patience: Patience) -> None:
    # A server that ignores ranges starts from nothing each time: progress is what was never had before.
    most, failures, answered, again = part.size, 0, False, False
    while True:
        try:
            resumed = _receive(url, part, progress, patience.timeout_s)
        except _BrokenError as reason:
            progress.close()
            answered = answered or not isinstance(reason, _NoAnswerError)
            failures = failures + 1 if part.size <= most else 0
            most = max(most, part.size)
            if failures >= patience.attempts or not answered:
                raise _UselessError(str(reason)) from None
            progress.say(f"{url}: {reason} ({part.size} bytes have come); trying again")
            time.sleep(patience.pause_s * 2 ** max(failures - 1, 0))
            continue
        wrong = part.accept()
        if not wrong:
            return
        if not resumed or again:
            raise _UselessError(f"sent {wrong}")
        progress.close()
        progress.say(f"{url}: the pieces put together are {wrong}; fetching it whole")
        again = True


def _receive(url: str, part: Part, progress: Progress, timeout_s: float) -> bool:
    """Bring the part to its end; gives whether some of it was there before."""
    resumed = part.size > 0
    try:
        response = _open(url, part.headers(url), timeout_s)
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
        with part.receiving(url, start, total, response.headers) as file:
            progress.begin(part.wanted.target.name, "B", total, start)
            for chunk in _chunks(response):
                if part.size + len(chunk) > part.wanted.max_bytes:
                    raise _UselessError(f"sends more than {part.wanted.max_bytes} bytes")
                part.append(file, chunk)
                progress.advance(len(chunk))
    if total is not None and part.size != total:
        raise _BrokenError(f"broke off before {total} bytes")
    return start > 0


def _open(url: str, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (  # all that urllib has, but those for files and FTP, where a redirect may lead
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(url, headers={**_HEADERS, **headers}), timeout=timeout_s)


def _check_status(error: urllib.error.HTTPError, part: Part) -> None:
    """Nothing where the server says that the part is all there is."""
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        if _content_range(error.headers)[1] == part.size:
            return
        part.clear()
        raise _BrokenError("has less than what came before; starting anew")
    if error.code in _TRANSIENT:
        raise _BrokenError(f"answers {error.code} {error.reason}")
    raise _UselessError(f"answers {error.code} {error.reason}")


def _extent(response: http.client.HTTPResponse, part: Part) -> tuple[int, int | None]:
    """The byte that the response begins with, and the size of the whole file where the server tells it."""
    if response.headers.get_content_type() == "text/html":  # a login or a notice: no reason to drop the part
        raise _UselessError("sends a web page")
    start, length = 0, response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        first, total = _content_range(response.headers)
        if first != part.size or (part.total or total) != total:
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
