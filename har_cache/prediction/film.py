"""Pictures -> the bytes of a film: a GIF or an MP4."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..errors import HarCacheError

_COLOURS = 255  # one less than a GIF has: the last one stands for what stays as it was
_STILL = 12  # of 255: less is no movement; nobody sees it
_STRIP, _EVERY = 8, 3  # a palette is made from so many pictures, of every third pixel of every third row
_CRF = 19  # of H.264; 0 loses nothing, 51 is the worst

Scene = Iterable[Image.Image]


@dataclass(frozen=True)
class FilmKind:
    """GIF or MP4: the width of its pictures in pixels, how many of them it shows a second, the most for one scene."""

    suffix: str
    width: int
    fps: Fraction
    most: int


# A GIF grows by 10 to 40 kB with every picture of a real video.
KINDS = (FilmKind(".gif", 320, Fraction(10), 100), FilmKind(".mp4", 640, Fraction(25), 500))


def kind_of(path: Path) -> FilmKind:
    """What is to be written to `path`. Raises HarCacheError where its suffix is none of .gif and .mp4."""
    for kind in KINDS:
        if path.suffix.lower() == kind.suffix:
            return kind
    raise HarCacheError(f"--gif {path}: expected a file named *.gif or *.mp4")


def encode(kind: FilmKind, scenes: Iterable[Scene]) -> bytes:
    """All pictures of all scenes one after another; they are RGB, of one size, with even sides for an MP4."""
    return _gif(kind, scenes) if kind.suffix == ".gif" else _mp4(kind, scenes)


def _gif(kind: FilmKind, scenes: Iterable[Scene]) -> bytes:
    pictures = [picture for scene in scenes for picture in _reduced(scene)]
    file = io.BytesIO()
    pictures[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[int(1000 / kind.fps)] * len(pictures),  # Pillow adds up those of equal pictures
        loop=0,
        disposal=1,  # each picture is drawn onto the one before
    )
    return file.getvalue()


def _reduced(scene: Scene) -> Iterator[Image.Image]:
    """The pictures in the best colours for all of them: with a palette for each, what does not move would flicker."""
    pictures = list(_steadied(scene))
    chosen = [np.asarray(picture)[::_EVERY, ::_EVERY] for picture in pictures[:: -(-len(pictures) // _STRIP)]]
    strip = Image.fromarray(np.concatenate(chosen))
    palette = strip.quantize(_COLOURS, Image.Quantize.MEDIANCUT, kmeans=1)
    return (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)


def _steadied(scene: Scene) -> Iterator[Image.Image]:
    """The pictures, each with those pixels of the one before that hardly change: the noise of a video's compression is
    more than half of a GIF otherwise.
    """
    shown: np.ndarray | None = None
    for picture in scene:
        pixels = np.asarray(picture, np.int16)
        if shown is not None:
            still = np.abs(pixels - shown).max(2, keepdims=True) < _STILL
            pixels = np.where(still, shown, pixels)
        shown = pixels
        yield Image.fromarray(pixels.astype(np.uint8))


def _mp4(kind: FilmKind, scenes: Iterable[Scene]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        _write_mp4(file, kind, scenes)
        return file.read_bytes()


def _write_mp4(file: Path, kind: FilmKind, scenes: Iterable[Scene]) -> None:
    # The index comes first, so that a browser can begin before it has everything.
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=kind.fps, options={"crf": str(_CRF), "preset": "medium"})
        for number, picture in enumerate(picture for scene in scenes for picture in scene):
            if not number:
                stream.width, stream.height = picture.size
                stream.pix_fmt = "yuv420p"  # the one that every player shows
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
