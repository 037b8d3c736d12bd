"""Opens video files, and says why one cannot be opened.

FFmpeg guesses a format from content and follows what it finds: a playlist named `clip.avi` opens other
files. So a file is judged by its first bytes before any decoder sees it; only real video containers
pass, each with the demuxer that must read it.
"""

import errno
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ClipError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

MAX_SIDE = 8192

_HEAD = 1024
_TS_PACKET = 188
_MAGIC = {
    b"\x1aE\xdf\xa3": "matroska",
    b"\0\0\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
}
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
_SEGMENT = b"\x18S\x80g"
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<smil", b"<MPD", b"<asx", b"<ASX")


@dataclass(frozen=True)
class VideoInfo:
    """Contents of a header. Sizes are in pixels, `fps` is the average rate (0.0 if unknown).

    `declared_frames` is None where the container declares none; `container` is the demuxer's name.
    """

    width: int
    height: int
    fps: float
    declared_frames: int | None
    codec: str
    pixel_format: str
    container: str
    video_streams: int


class OpenVideo(NamedTuple):
    """An open file: its first video stream, set to decode on one thread, and what its header says.

    `declared_bytes`: the size that a Matroska or WebM file says it has, None where nothing is said.
    """

    container: "InputContainer"
    stream: "VideoStream"
    info: VideoInfo
    declared_bytes: int | None


@contextmanager
def opened(path: Path) -> Iterator[OpenVideo]:
    """Open `path` with PyAV. Raises ClipError if that cannot be, or if frames are larger than 8192x8192 pixels."""
    import av

    head = read_head(path)
    demuxer = demuxer_of(head)
    av.logging.set_level(None)
    with ExitStack() as stack:
        with reasons():
            # An absolute path is never read as an option or as a protocol, whatever the file is called.
            file = av.open(str(path.absolute()), format=demuxer, metadata_errors="replace")
            container = stack.enter_context(file)
            stream = _first_video(container)
            info = _describe(container, stream, demuxer)
        yield OpenVideo(container, stream, info, declared_bytes(head))


def _describe(container: "InputContainer", stream: "VideoStream", demuxer: str) -> VideoInfo:
    codec = stream.codec_context
    return VideoInfo(
        width=codec.width,
        height=codec.height,
        fps=float(stream.average_rate or 0),
        declared_frames=stream.frames or None,
        codec=codec.name,
        pixel_format=codec.pix_fmt or "",
        container=demuxer,
        video_streams=len(container.streams.video),
    )


@contextmanager
def reasons() -> Iterator[None]:
    """Turn errors of the decoders and of the file system into a ClipError: one short line, without paths."""
    import av

    try:
        yield
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise ClipError("truncated or damaged: the container cannot be read") from error
    except (MemoryError, OSError, av.error.FFmpegError) as error:
        if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
            raise ClipError("out of memory while decoding") from error
        raise ClipError(f"cannot be decoded: {error.strerror}") from error


def demuxer_of(head: bytes) -> str:
    """Return the name of the FFmpeg demuxer for a file with these first bytes.

    Raises ClipError if it is empty, a playlist, text, or anything else that is not a known video container.
    """
    if not head:
        raise ClipError("empty file")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in _BOXES:
        return "mov"
    if len(head) > 3 * _TS_PACKET and all(head[i * _TS_PACKET] == ord("G") for i in range(4)):
        return "mpegts"
    for magic, demuxer in _MAGIC.items():
        if head.startswith(magic):
            return demuxer
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLISTS):
        raise ClipError("a playlist, not a video")
    if _is_text(head):
        raise ClipError("a text file, not a video")
    raise ClipError("not a video container (AVI, MP4, MOV, MKV, WebM, MPEG, TS, ASF, FLV, Ogg)")


def declared_bytes(head: bytes) -> int | None:
    """Return the size in bytes that a Matroska or WebM file with these first bytes says it has, None where nothing is
    said.
    """
    if not head.startswith(b"\x1aE\xdf\xa3"):
        return None
    header_size, start = _ebml_number(head, 4)
    segment = start + (header_size or 0)
    if head[segment : segment + 4] != _SEGMENT:
        return None
    size, start = _ebml_number(head, segment + 4)
    return None if size is None else start + size


def _first_video(container: "InputContainer") -> "VideoStream":
    if not container.streams.video:
        raise ClipError("no video stream" + (" (audio only)" if container.streams.audio else ""))
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec is None:
        raise ClipError("unknown video codec")
    if not (codec.width and codec.height):
        raise ClipError("no valid frame size")
    if max(codec.width, codec.height) > MAX_SIDE:
        raise ClipError(f"frames of {codec.width}x{codec.height}: more than {MAX_SIDE}x{MAX_SIDE} is refused")
    codec.thread_type = "NONE"
    codec.thread_count = 1
    return stream


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file. Raises ClipError if there is no such file, or it may not be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ClipError("not a regular file")
        with path.open("rb") as file:
            return file.read(_HEAD)
    except FileNotFoundError as error:
        reason = "dangling link: what it points to is not there" if path.is_symlink() else "no such file"
        raise ClipError(reason) from error
    except PermissionError as error:
        raise ClipError("permission denied") from error
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror}") from error


def _is_text(head: bytes) -> bool:
    # Four bytes less: a longer file may be cut inside a character.
    text = head[:-4].decode("utf-8", "ignore") if len(head) == _HEAD else head.decode("utf-8", "replace")
    return all(char.isprintable() or char in "\t\r\n\f" for char in text) and "\ufffd" not in text


def _ebml_number(data: bytes, at: int) -> tuple[int | None, int]:
    """Read an EBML size at `at`: its value (None where it says "unknown") and the offset after it."""
    length = 9 - (data[at] if at < len(data) else 0).bit_length()
    if length > 8 or at + length > len(data):
        return None, at
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & unknown
    return (None if value == unknown else value), at + length
