"""Clips to be damaged: short drawn ones of every container and many codecs that are read, and beginnings of real ones;
and odd ones, that stay as they are.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...helpers.shared import VIDEOS
from ...helpers.videos import moving_frames, remux, write_audio, write_video

_FRAMES, _WIDTH, _HEIGHT = 14, 96, 64
_OF_REAL = 24
_SAME_BYTES = {"fflags": "+bitexact"}  # no random identifiers: a seed makes the same clips everywhere
_B = {"bf": "2", "g": "6", "threads": "1"}
_QUICK = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}

# File name, codec, pixel format, options, and the muxer where the suffix does not tell it.
_DRAWN: tuple[tuple[str, str, str, dict[str, str], str | None], ...] = (
    ("mpeg4.avi", "mpeg4", "yuv420p", {"g": "6"}, None),
    ("mpeg4-b.avi", "mpeg4", "yuv420p", _B, None),
    ("mjpeg.avi", "mjpeg", "yuvj420p", {}, None),
    ("h264.avi", "libx264", "yuv420p", _B, None),
    ("raw.avi", "rawvideo", "yuv420p", {}, None),
    ("msmpeg4.avi", "msmpeg4", "yuv420p", {}, None),
    ("huffyuv.avi", "huffyuv", "rgb24", {}, None),
    ("cinepak.avi", "cinepak", "rgb24", {}, None),
    ("h264.mp4", "libx264", "yuv420p", _B, None),
    ("h265.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none:pools=1:frame-threads=1"}, None),
    ("av1.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1"}, None),
    ("mpeg4.mp4", "mpeg4", "yuv420p", _B, None),
    ("h264.mov", "libx264", "yuv422p", {"x264-params": "open-gop=1:keyint=6:bframes=3", "threads": "1"}, None),
    ("prores.mov", "prores_ks", "yuv422p10le", {}, None),
    ("qtrle.mov", "qtrle", "rgb24", {}, None),
    ("h264.mkv", "libx264", "yuv420p", _B, None),
    ("ffv1.mkv", "ffv1", "yuv420p", {}, None),
    ("vp8.mkv", "libvpx", "yuv420p", _QUICK, None),
    ("vp8.webm", "libvpx", "yuv420p", {**_QUICK, "auto-alt-ref": "1", "lag-in-frames": "8"}, None),
    ("vp9.webm", "libvpx-vp9", "yuv420p", _QUICK, None),
    ("mpeg1.mpg", "mpeg1video", "yuv420p", {"g": "6"}, None),
    ("mpeg2.mpg", "mpeg2video", "yuv420p", _B, None),
    ("h264.ts", "libx264", "yuv420p", _B, None),
    ("mpeg2.ts", "mpeg2video", "yuv420p", {"flags": "+ildct+ilme"}, None),
    ("wmv1.wmv", "wmv1", "yuv420p", {}, None),
    ("wmv2.wmv", "wmv2", "yuv420p", {}, None),
    ("flv1.flv", "flv", "yuv420p", {"g": "6"}, None),
    ("h264.flv", "libx264", "yuv420p", _B, None),
    ("vp8.ogv", "libvpx", "yuv420p", _QUICK, "ogg"),
)


def write_bases(folder: Path) -> list[Path]:
    """Write the sound clips that are damaged later: drawn ones, and the first frames of real ones where those are."""
    os.environ.setdefault("SVT_LOG", "1")  # of the encoder of AV1: errors alone
    folder.mkdir(parents=True)
    drawn = moving_frames(_FRAMES, _WIDTH, _HEIGHT)
    paths = [
        write_video(folder / name, drawn, codec, pixels, options, container, _SAME_BYTES)
        for name, codec, pixels, options, container in _DRAWN
    ]
    rest = frozenset(range(_OF_REAL, 10000))
    real = sorted(VIDEOS.glob("*/*.avi")) if VIDEOS.is_dir() else []
    return paths + [remux(clip, folder / f"real-{clip.parent.name}.avi", skip=rest) for clip in real]


def write_odd(folder: Path) -> Iterator[Path]:
    """Write clips that nobody has damaged, and that a decoder, a resize or a reader may stumble over."""
    folder.mkdir(parents=True)
    for width, height in ((4000, 2), (2, 4000), (8192, 8), (8, 8192), (1, 300), (17, 16), (161, 121), (1920, 1080)):
        yield write_video(folder / f"{width}x{height}.avi", moving_frames(3, width, height), "rawvideo")
    for width, height in ((8194, 8), (8, 8200)):
        yield write_video(folder / f"{width}x{height}.avi", moving_frames(2, width, height), "rawvideo")
    for name, codec in (("gray.mkv", "rawvideo"), ("rgb555le.avi", "rawvideo"), ("yuv444p10le.mkv", "ffv1")):
        yield write_video(folder / name, moving_frames(4, 98, 66), codec, Path(name).stem)
    yield write_video(folder / "one.mp4", moving_frames(1), "libx264")
    yield write_video(folder / "still.avi", moving_frames(20, still=18))
    yield write_video(folder / "turned.mp4", moving_frames(5), "libx264", rotation=90)
    yield write_video(folder / "interlaced.mpg", moving_frames(6), "mpeg2video", options={"flags": "+ildct+ilme"})
    yield write_video(folder / "with sound.mp4", moving_frames(10), "libx264", seconds_of_audio=2.0)
    yield write_video(folder / "title.avi", moving_frames(3), title="\x1b[31m\r\n=1+1")
    yield write_audio(folder / "sound.mp4")
    parts = [
        write_video(folder / f"{n}.mpg", moving_frames(4, n), "mpeg2video", options={"bf": "0"}) for n in (96, 160)
    ]
    (folder / "grows.mpg").write_bytes(b"".join(part.read_bytes() for part in parts))
    yield folder / "grows.mpg"
    for name, content in _NO_VIDEOS.items():
        (folder / name).write_bytes(content)
        yield folder / name
    yield shutil.copy(folder / "one.mp4", folder / "-i concat;a&b '%d'.avi")


_NO_VIDEOS = {
    "empty.avi": b"",
    "byte.avi": b"R",
    "list.avi": b"#EXTM3U\n/etc/passwd\n",
    "concat.avi": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "text.avi": b"no video\n" * 50,
    "riff.avi": b"RIFF\xff\xff\xff\xffAVI ",
    "zeros.avi": bytes(4096),
    "picture.avi": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "box.mp4": b"\0\0\0\x08ftyp" * 100,
    "ebml.mkv": b"\x1aE\xdf\xa3" + b"\xff" * 200,
}
