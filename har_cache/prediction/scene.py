"""Predicted videos as a film: each picture with what the model makes of the frames up to it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..files import write_file
from ..video.decode import read_chunks
from .caption import draw, picture_height
from .film import FilmKind, encode, kind_of
from .predictor import Prediction, Predictor
from .timeline import Story

_USUAL_FPS = 25.0  # where the video does not say
_HOLD_S = 1.6  # how long the last picture of a scene, the verdict, stays


def write_film(path: Path, predictor: Predictor, predictions: Sequence[Prediction]) -> int:
    """Write a .gif or .mp4 of the videos one after another; gives its size in bytes.

    A video is shown at its own pace or, where it is long, faster. Raises HarCacheError where `path` says neither.
    """
    kind = kind_of(path)
    height = picture_height(kind.width, [(p.info.width, p.info.height) for p in predictions])
    labels = [f"{i}/{len(predictions)}" if len(predictions) > 1 else "" for i in range(1, len(predictions) + 1)]
    scenes = (_scene(p, predictor, kind, height, label) for p, label in zip(predictions, labels, strict=True))
    data = encode(kind, scenes)
    write_file(path, data)
    return len(data)


def _scene(
    prediction: Prediction, predictor: Predictor, kind: FilmKind, height: int, label: str
) -> Iterator[Image.Image]:
    """The pictures of one video in the order of time; the last one stays for a moment."""
    frames = prediction.frames
    seconds = frames / (prediction.info.fps or _USUAL_FPS)
    wanted = max(1, round(seconds * float(kind.fps)))
    shown = min(wanted, kind.most)
    count = min(shown, frames)
    complete = moments(frames, count)
    pace = f"{wanted / shown:.1f}x" if wanted > shown else ""
    story = Story(
        prediction.classes,
        np.stack([predictor.judge(prediction.embeddings[:, :n]) for n in complete]),
        complete / frames,
        prediction.classes.index(prediction.true) if prediction.true else None,
        "  ".join(filter(None, (label, pace))),
    )
    for i, frame in enumerate(_frames(prediction.video, complete - 1)):
        picture = draw(frame, story, i, (kind.width, height))
        # Where there are fewer frames than the film has pictures in that time, each is shown for longer.
        yield from [picture] * ((i + 1) * shown // count - i * shown // count)
    yield from [picture] * round(_HOLD_S * kind.fps)


def moments(frames: int, count: int) -> np.ndarray:
    """How many frames have come in at each of `count` moments, evenly spread: int (count), rising, at last all."""
    return (np.arange(1, count + 1) * frames) // count


def _frames(video: Path, numbers: np.ndarray) -> Iterator[np.ndarray]:
    first = 0
    for chunk in read_chunks(video):
        for number in numbers[(numbers >= first) & (numbers < first + len(chunk))]:
            yield chunk[number - first]
        first += len(chunk)
