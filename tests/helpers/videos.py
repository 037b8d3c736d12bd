"""Small test clips, written with PyAV, and the reference that their frames are compared with."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from har_cache.encoder.transform import crop
from har_cache.video.container import VideoInfo, opened
from har_cache.video.decode import VideoReader

RATE = 30


def moving_frames(count: int, width: int = 160, height: int = 120, still: int = 0) -> list[np.ndarray]:
    """`count` distinct frames (height, width, 3), uint8 RGB, of which the last `still` are repeats."""
    blocks = np.random.default_rng(count).integers(0, 255, (height // 8 + 9, width // 8 + 9, 3), np.uint8)
    ground = blocks.repeat(8, 0).repeat(8, 1)
    frames = []
    for i in range(count):
        step = min(i, count - 1 - still)
        frame = ground[step % 9 : step % 9 + height, 2 * step % 31 : 2 * step % 31 + width].copy()
        frame[:, : 3 * step % width] //= 2
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "mpeg4",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: str | None = None,
    mux_options: dict[str, str] | None = None,
    title: str = "",
    seconds_of_audio: float = 0.0,
    rotation: int = 0,
) -> Path:
    """Write RGB `frames` at 30 per second; `container` names the muxer where the suffix does not."""
    with av.open(str(path.absolute()), "w", format=container, options=mux_options or {}) as out:
        if title:
            out.metadata["title"] = title
        stream = out.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        if rotation:
            stream.set_display_rotation(rotation)
        audio = out.add_stream("aac", rate=16000) if seconds_of_audio else None
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=pixel_format)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
        if audio:
            _write_silence(out, audio, seconds_of_audio)
    return path


def write_audio(path: Path, seconds: float = 0.5) -> Path:
    """Write a file that holds sound alone."""
    with av.open(str(path), "w") as out:
        codec = "pcm_s16le" if path.suffix == ".avi" else "aac"
        _write_silence(out, out.add_stream(codec, rate=16000), seconds)
    return path


def remux(source: Path, target: Path, shift: float = 0.0, skip: frozenset[int] = frozenset()) -> Path:
    """Copy the video packets of `source`, all but those numbered in `skip`, `shift` seconds earlier."""
    with av.open(str(source)) as into, av.open(str(target), "w") as out:
        stream = into.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for i, packet in enumerate(p for p in into.demux(stream) if p.dts is not None):
            if i not in skip:
                ticks = round(shift / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = copy
                out.mux(packet)
    return target


def reference_frames(path: Path) -> np.ndarray:
    """Every frame that PyAV decodes, one after another: (n, height, width, 3) uint8 RGB."""
    with av.open(str(path.absolute()), metadata_errors="replace") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def reference_crops(path: Path) -> Tensor:
    """What the network sees of them: (n, 3, 224, 224)."""
    return crop(torch.from_numpy(reference_frames(path)))


def _write_silence(out: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for i in range(int(seconds * 16000) // 1024):
        frame = av.AudioFrame(format="s16", layout=stream.layout.name, samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.rate, frame.pts, frame.time_base = 16000, 1024 * i, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def probe(path: Path) -> VideoInfo:
    """What the header of a file says."""
    with opened(path) as video:
        return video.info


def read_chunks(path: Path, decoder: str = "auto", size: int = 16) -> Iterator[np.ndarray]:
    """All frames of a file in chunks, which close it at their end."""
    with VideoReader(path, decoder) as video:
        yield from video.chunks(size)
