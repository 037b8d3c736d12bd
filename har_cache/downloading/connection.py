"""A connection to a web server that may be slow or hostile: it has to bring a least number of bytes in each while."""

import io
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPMessage, HTTPResponse
from typing import IO, Any


class SlowError(OSError):
    """The server takes too long over too little."""


@dataclass
class Pace:
    """How fast a file comes: every `window_s` seconds at least `least_bytes` of it. What else a server sends, interim
    answers, headers or trailers without end, does not count.
    """

    window_s: float
    least_bytes: int
    _since: float = field(default_factory=time.monotonic)
    _come: int = 0

    def count(self, size: int) -> None:
        """So many bytes of the file have come."""
        self._come += size

    def check(self) -> None:
        """Raise SlowError at the end of a window in which too little has come."""
        if (now := time.monotonic()) - self._since < self.window_s:
            return
        if self._come < self.least_bytes:
            raise SlowError(f"sent {self._come} bytes of the file in {self.window_s:.3g} s: too slow")
        self._since, self._come = now, 0


def open_url(request: urllib.request.Request, timeout_s: float, pace: Pace) -> Any:
    """The response to a request, as urllib gives it; each time that it waits for the server, `pace` is asked. Raises
    what urllib raises, and SlowError.
    """
    opener = urllib.request.build_opener(_HTTP(pace), _HTTPS(pace), _NoFTP, _Redirects)
    return opener.open(request, timeout=timeout_s)


class _Paced:
    """A handler of urllib's whose connections keep a pace."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def do_open(self, http_class: Any, req: urllib.request.Request, **arguments: Any) -> HTTPResponse:
        return super().do_open(partial(_connection, http_class, self._pace), req, **arguments)  # type: ignore[misc]


class _HTTP(_Paced, urllib.request.HTTPHandler):
    pass


class _HTTPS(_Paced, urllib.request.HTTPSHandler):
    pass


class _NoFTP(urllib.request.FTPHandler):
    """urllib by itself refuses redirects to files, but not to FTP."""

    def ftp_open(self, req: urllib.request.Request) -> Any:
        raise urllib.error.URLError("leads to FTP")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """urllib by itself reads what a redirect says, into memory, to its end, if it has one."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> Any:
        fp.read = lambda size=-1: b""  # type: ignore[method-assign]
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _connection(kind: type[HTTPConnection], pace: Pace, *arguments: Any, **named: Any) -> HTTPConnection:
    connection = kind(*arguments, **named)
    connection.response_class = partial(_Response, pace)  # type: ignore[assignment]
    return connection


class _Response(HTTPResponse):
    def __init__(self, pace: Pace, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.fp = io.BufferedReader(_PacedReader(self.fp.detach(), pace))


class _PacedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw, self._pace = raw, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._pace.check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
