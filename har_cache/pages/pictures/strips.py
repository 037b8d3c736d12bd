"""Film strips of clips, as pictures within a page."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...cache.manifest import read_manifest
from ...data.index import read_index
from ...errors import CacheError, ClipError
from ...model.run import Run
from ...progress import Progress
from ...video.decode import read_frames, spread

_PICTURES = 6  # of a clip
_WIDTH, _HEIGHT = 160, 320  # pixels, at most
_QUALITY = 72


def find_videos(data: Path, run: Run) -> Mapping[str, Path]:
    """The clips of the data set that are on disk, by key: where the run's cache says, or else in class folders. Raises
    DataError where that is no data set.
    """
    try:
        places = read_manifest(Path(run.config.cache)).paths
    except CacheError:  # it has moved, say
        places = {}
    files = {key: data / place for key, place in places.items()}
    return {key: path for key, path in files.items() if path.exists()} if places else read_index(data).paths


def with_film_strips(
    mistakes: Sequence[dict[str, Any]], videos: Mapping[str, Path], progress: Progress
) -> Iterator[dict[str, Any]]:
    """The mistakes, each with `pictures`, frames of the clip as JPEG data URIs, or the `reason` why there are none."""
    with progress.task("Film strips", "clip", len(mistakes)):
        for mistake in mistakes:
            yield {**mistake, **_film_strip(videos.get(mistake["key"]), mistake["frames"])}
            progress.advance()


def _film_strip(video: Path | None, frames: int) -> dict[str, Any]:
    if video is None:
        return {"reason": "Not in this data set"}
    try:
        return {"pictures": [to_jpeg(frame) for frame in read_frames(video, spread(frames, _PICTURES))]}
    except ClipError as error:
        return {"reason": f"Cannot be decoded: {error}"}


def to_jpeg(frame: np.ndarray) -> str:
    """A frame, uint8 (height, width, 3), as a data URI of a small picture."""
    picture = Image.fromarray(frame)
    scale = min(_WIDTH / picture.width, _HEIGHT / picture.height)
    sides = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    file = io.BytesIO()
    picture.resize(sides, Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
