"""A web server for tests that serves files as a good one does, unless told to misbehave."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from har_cache.progress import Progress


@dataclass
class Fault:
    """What to do wrong with one request."""

    breaks_at: int | None = None  # close the connection after so many bytes of the file
    falls_silent_at: int | None = None  # send no more after so many, and keep the connection
    ignores_range: bool = False
    range_from: int | None = None  # answer a range with one that begins elsewhere
    status: int | None = None
    location: str = ""  # of a redirect
    data: bytes | None = None  # other bytes than the file's
    length: int | None = None  # a Content-Length that lies
    no_length: bool = False
    content_type: str = "application/octet-stream"
    etag: str = ""  # another one than the file's
    raw: bytes | None = None  # in place of all else: these bytes,
    endless: bytes = b""  # and then these again and again,
    every_s: float = 0.0  # with a pause between them


@dataclass
class Website:
    """`files`: content by path. `faults`: by path, one for each request in turn; `always`: for all that come then."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)  # Last-Modified, by path
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range header of each request
    conditions: list[str] = field(default_factory=list)  # their If-Range headers
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def website(files: dict[str, bytes] | None = None) -> Iterator[Website]:
    """One that serves `files`, with ETags."""
    site = Website(files=dict(files or {}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            site.asked.append((self.path, self.headers.get("Range", "")))
            site.conditions.append(self.headers.get("If-Range", ""))
            queue = site.faults.get(self.path, [])
            _answer(self, site, queue.pop(0) if queue else site.always.get(self.path, Fault()))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, site: Website, fault: Fault) -> None:
    if fault.raw is not None:
        _send_raw(request, site, fault, fault.raw)
        return
    content = site.files.get(request.path) if fault.data is None else fault.data
    if content is None or fault.status:
        request.send_response(fault.status or 404)
        request.send_header("Content-Length", "0")
        if fault.location:
            request.send_header("Location", fault.location)
        request.end_headers()
        return
    start = _start(request, site, fault)
    if start is not None and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(200 if start is None else 206)
    if start is not None:
        start = start if fault.range_from is None else fault.range_from
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if not fault.no_length:
        request.send_header("Content-Length", str((fault.length or len(content)) - (start or 0)))
    request.send_header("ETag", fault.etag or site.etags.get(request.path, '"1"'))
    if request.path in site.dates:
        request.send_header("Last-Modified", site.dates[request.path])
    request.send_header("Content-Type", fault.content_type)
    request.end_headers()
    _send(request, site, fault, content, start or 0)


def _start(request: BaseHTTPRequestHandler, site: Website, fault: Fault) -> int | None:
    match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    versions = (None, site.etags.get(request.path, '"1"'), site.dates.get(request.path))
    same = request.headers.get("If-Range") in versions
    return int(match[1]) if match and same and not fault.ignores_range else None


def _send(request: BaseHTTPRequestHandler, site: Website, fault: Fault, content: bytes, start: int) -> None:
    ends = [end for end in (fault.breaks_at, fault.falls_silent_at) if end is not None]
    try:
        request.wfile.write(content[start : min([*ends, len(content)])])
        request.wfile.flush()
        if fault.falls_silent_at is not None:
            site.over.wait(30)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _send_raw(request: BaseHTTPRequestHandler, site: Website, fault: Fault, raw: bytes) -> None:
    try:
        request.wfile.write(raw)
        while fault.endless and not site.over.wait(fault.every_s):
            request.wfile.write(fault.endless)
    except (BrokenPipeError, ConnectionResetError):
        pass


class Recorder(Progress):
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.begun: list[tuple[str, str, int | None, int]] = []
        self.advanced = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        self.begun.append((what, unit, total, done))

    def advance(self, count: int = 1, note: str = "") -> None:
        self.advanced += count
