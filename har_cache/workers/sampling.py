"""Frames spread over a clip, in a worker process: what the encoder of a new cache is made from."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..encoder.encoder import CPU_BATCH
from ..encoder.transform import crop
from ..errors import ClipError
from ..video.decode import VideoInfo, probe
from .tasks import bounded, chunks, encoder

_LONGEST_SAMPLED = 1000


def sample(path: Path, count: int) -> np.ndarray:
    """`count` frames spread evenly over the clip (all where it has fewer): uint8 (n, 3, 224, 224)."""
    crops: list[Tensor] = []
    first = 0
    with bounded():
        info = probe(path)
        wanted = _spread(info.declared_frames or _counted(path, info), count)
        for chunk in chunks(path, info):
            chosen = [i - first for i in wanted if first <= i < first + len(chunk)]
            crops += [crop(torch.from_numpy(chunk[chosen])).to(torch.uint8)] if chosen else []
            first += len(chunk)
            if first > wanted[-1]:
                break
    if not crops:
        raise ClipError("too short to sample")
    return torch.cat(crops).numpy()


def features(path: Path, count: int) -> np.ndarray:
    """Pooled features before the projection of the frames that `sample` takes: float32 (n, 1280)."""
    crops = torch.from_numpy(sample(path, count)).split(CPU_BATCH)
    return torch.cat([encoder().features(part.float()) for part in crops]).numpy()


def _counted(path: Path, info: VideoInfo) -> int:
    """The frames of a clip that declares no number (MKV, WebM), as far as they are sampled."""
    frames = 0
    for chunk in chunks(path, info):
        frames += len(chunk)
        if frames >= _LONGEST_SAMPLED:
            break
    return frames


def _spread(frames: int, count: int) -> list[int]:
    length = min(frames, _LONGEST_SAMPLED)
    count = min(count, length)
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]
