"""A clip as a few small pictures."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..video.decode import read_chunks

_WIDTH = 160
_QUALITY = 72


def filmstrip(path: Path, frames: int, count: int = 6) -> list[str]:
    """`count` frames of a clip of `frames` frames, evenly over it, as JPEG data URIs 160 pixels wide.

    Raises ClipError where the clip cannot be decoded.
    """
    wanted = set(np.linspace(0, max(frames - 1, 0), min(count, max(frames, 1))).round().astype(int).tolist())
    pictures, start = [], 0
    for chunk in read_chunks(path):
        pictures += [_data_uri(chunk[i - start]) for i in sorted(wanted) if start <= i < start + len(chunk)]
        start += len(chunk)
    return pictures


def _data_uri(frame: np.ndarray) -> str:
    picture = Image.fromarray(frame)
    height = max(1, round(_WIDTH * picture.height / picture.width))
    file = io.BytesIO()
    picture.resize((_WIDTH, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
