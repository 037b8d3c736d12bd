"""Small pictures of a clip's frames, taken while they are decoded for something else."""

import io
from collections.abc import Iterator

import numpy as np

_QUALITY = 95  # of a JPEG with all its colour: nobody sees a difference


class Thumbnails:
    """JPEGs of frames evenly spread over a clip, however long it is, in bounded memory: at most `most` of them, and the
    last frame. None is wider or taller than `side`.

    `jpegs`: by how many frames had come in with that one, rising.
    """

    def __init__(self, side: int, most: int) -> None:
        self._side, self._most = side, most
        self._every = 1
        self.jpegs: dict[int, bytes] = {}

    def watch(self, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass chunks of frames on, uint8 RGB (n, height, width, 3) each, and keep pictures of some."""
        count = 0
        for chunk in chunks:
            for frame in chunk:
                count += 1
                self._offer(count, frame)
            yield chunk
        if count and count not in self.jpegs:
            self.jpegs[count] = self._jpeg(frame)

    def _offer(self, count: int, frame: np.ndarray) -> None:
        if len(self.jpegs) == self._most and count % self._every == 0:
            self._every *= 2
            self.jpegs = {n: jpeg for n, jpeg in self.jpegs.items() if n % self._every == 0}
        if count % self._every == 0:
            self.jpegs[count] = self._jpeg(frame)

    def _jpeg(self, frame: np.ndarray) -> bytes:
        from PIL import Image  # only here: worker processes seldom need it

        picture = Image.fromarray(frame)
        picture.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
        return file.getvalue()
