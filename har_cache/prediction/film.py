"""A film of predicted videos, a GIF or an MP4: each picture with what the model makes of the frames up to it."""

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..errors import SettingError
from ..progress import Progress
from ..storage.files import write_file
from ..system import cores
from .panel import RunningPrediction, annotate, picture_height
from .predictor import Prediction, Predictor

_COLOURS = 255  # one less than a GIF has: the last one stands for what stays as it was
_STILL = 12  # of 255: less is no movement; nobody sees it
_STRIP, _EVERY = 8, 3  # a palette is made from so many pictures, of every third pixel of every third row
_CRF = 19  # of H.264; 0 loses nothing, 51 is the worst
_USUAL_FPS = 25.0  # where the video does not say
_HOLD_S = 1.6  # how long the last picture of a video, the verdict, stays

Shown = tuple[Image.Image, int]  # a picture, and how many times in a row it is shown


@dataclass(frozen=True)
class FilmKind:
    """GIF or MP4: the width of its pictures in pixels, how many of them it shows a second, the most for one video."""

    suffix: str
    width: int
    fps: Fraction
    most: int

    def pictures(self, frames: int, fps: float) -> tuple[int, float]:
        """Number of pictures of a video of this many frames, and frames a second, and how much faster it is shown
        than it was taken. Pictures may be the same; `fps` is 0 where it is not known.
        """
        wanted = max(1, round(frames / (fps or _USUAL_FPS) * float(self.fps)))
        shown = min(wanted, self.most)
        return shown, wanted / shown


# A GIF grows by 10 to 40 kB with every picture of a real video.
KINDS = (FilmKind(".gif", 320, Fraction(10), 100), FilmKind(".mp4", 640, Fraction(25), 500))


def kind_of(path: Path) -> FilmKind:
    """The kind of film at `path`. Raises SettingError where its suffix is none of .gif and .mp4."""
    for kind in KINDS:
        if path.suffix.lower() == kind.suffix:
            return kind
    raise SettingError(f"--gif {path}: expected a file named *.gif or *.mp4")


def moments(frames: int, count: int) -> np.ndarray:
    """Number of frames that are in at each of `count` moments, evenly spread: int (count), rising, at last all."""
    return (np.arange(1, count + 1) * frames) // count


def choose_pictures(kind: FilmKind, frames: int, fps: float, thumbnails: Mapping[int, bytes]) -> dict[int, bytes]:
    """Those thumbnails of a video that its film shows, by how many frames had come in with each, rising to all."""
    there = np.array(list(thumbnails))
    wanted = moments(frames, min(kind.pictures(frames, fps)[0], frames))
    return {int(n): thumbnails[n] for n in np.unique(there[np.searchsorted(there, wanted)])}


def write_film(
    path: Path, predictor: Predictor, predictions: Sequence[Prediction], progress: Progress = Progress()
) -> int:
    """Write a .gif or .mp4 of the videos one after another; gives its size in bytes.

    A video is shown at its own speed or, where it is long, faster. Raises SettingError where `path` says neither,
    FileError where it cannot be written.
    """
    kind, count = kind_of(path), len(predictions)
    height = picture_height(kind.width, [_open(next(iter(p.pictures.values()))).size for p in predictions])
    videos = (
        _annotated(prediction, predictor, kind, height, f"{i}/{count}" if count > 1 else "")
        for i, prediction in enumerate(predictions, 1)
    )
    with progress.task("Drawing the film", "video", count):
        data = encode(kind, videos, progress)
    write_file(path, data)
    return len(data)


def _annotated(
    prediction: Prediction, predictor: Predictor, kind: FilmKind, height: int, label: str
) -> Iterator[Shown]:
    """The pictures of one video in the order of time, drawn as they are asked for; the last one stays for a moment."""
    shown, speed = kind.pictures(prediction.frames, prediction.fps)
    complete = np.array(list(prediction.pictures))
    running = RunningPrediction(
        prediction.classes,
        predictor.probabilities(prediction.embeddings, complete),
        complete / prediction.frames,
        prediction.classes.index(prediction.true) if prediction.true else None,
        "  ".join(filter(None, (label, f"{speed:.1f}x" if speed > 1 else ""))),
    )
    count = len(complete)
    # Where there are fewer frames than the film has pictures in that time, each is shown for longer.
    times = [(i + 1) * shown // count - i * shown // count for i in range(count)]
    times[-1] += round(_HOLD_S * kind.fps)
    jpegs, size = prediction.pictures.values(), (kind.width, height)
    pictures = (annotate(_open(jpeg), running, i, size) for i, jpeg in enumerate(jpegs))
    return zip(pictures, times, strict=True)


def _open(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def encode(kind: FilmKind, videos: Iterable[Iterable[Shown]], progress: Progress = Progress()) -> bytes:
    """All pictures of all videos one after another; they are RGB, of one size, with even sides for an MP4."""
    return (_gif if kind.suffix == ".gif" else _mp4)(kind, videos, progress)


def _gif(kind: FilmKind, videos: Iterable[Iterable[Shown]], progress: Progress) -> bytes:
    shown: list[Shown] = []
    with ThreadPoolExecutor(cores()) as threads:
        for reduced in threads.map(_reduced, videos):
            shown += reduced
            progress.advance()
    file = io.BytesIO()
    shown[0][0].save(
        file,
        "GIF",
        save_all=True,
        append_images=[picture for picture, _ in shown[1:]],
        duration=[int(1000 / kind.fps) * times for _, times in shown],  # Pillow adds up those of equal pictures
        loop=0,
        disposal=1,  # each picture is drawn onto the one before
    )
    return file.getvalue()


def _reduced(shown: Iterable[Shown]) -> list[Shown]:
    """The pictures in the best colours for all of them: with a palette for each, what does not move would flicker."""
    steady = list(_steadied(shown))
    chosen = [np.asarray(picture)[::_EVERY, ::_EVERY] for picture, _ in steady[:: -(-len(steady) // _STRIP)]]
    strip = Image.fromarray(np.concatenate(chosen))
    palette = strip.quantize(_COLOURS, Image.Quantize.MEDIANCUT, kmeans=1)
    return [(picture.quantize(palette=palette, dither=Image.Dither.NONE), times) for picture, times in steady]


def _steadied(shown: Iterable[Shown]) -> Iterator[Shown]:
    """The pictures, each with those pixels of the one before that hardly change: the noise of a video's compression is
    more than half of a GIF otherwise.
    """
    before: np.ndarray | None = None
    for picture, times in shown:
        pixels = np.asarray(picture)
        if before is not None:
            changed = (np.maximum(pixels, before) - np.minimum(pixels, before) >= _STILL).any(2, keepdims=True)
            pixels = np.where(changed, pixels, before)
        before = pixels
        yield Image.fromarray(pixels), times


def _mp4(kind: FilmKind, videos: Iterable[Iterable[Shown]], progress: Progress) -> bytes:
    # The index comes first, so that a browser can begin before it has everything: that takes a file.
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=kind.fps, options={"crf": str(_CRF), "preset": "medium"})
            stream.pix_fmt = "yuv420p"  # the one that every player shows
            for video in videos:
                for picture, times in video:
                    if not stream.codec_context.is_open:
                        stream.width, stream.height = picture.size
                    for _ in range(times):
                        container.mux(stream.encode(av.VideoFrame.from_image(picture)))
                progress.advance()
            container.mux(stream.encode())
        return Path(file.name).read_bytes()
