"""Features as tar files of WebDataset: what belongs to a clip stands together, to be read from first to last."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ..storage.files import write_file
from .clips import ClipFeatures
from .formats import FeatureFormat
from .npy import npy_bytes


class WebDatasetFormat(FeatureFormat):
    """`<shard>.tar` of samples: embeddings.npy, float16 (frames, dim); times.npy, float64 (frames), in seconds; and
    json with key, label, source, splits and fps. The same bytes for the same clips.
    """

    def files(self, name: str, keys: Sequence[str]) -> list[str]:
        """One."""
        return [f"{name}.tar"]

    def write(self, folder: Path, name: str, clips: Sequence[ClipFeatures]) -> None:
        """One file."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, clip in enumerate(clips):
                for suffix, data in _members(clip):
                    member = tarfile.TarInfo(f"{name}-{number:05d}.{suffix}")
                    member.size, member.mode = len(data), 0o644
                    tar.addfile(member, io.BytesIO(data))
        write_file(folder / f"{name}.tar", out.getvalue())


def _members(clip: ClipFeatures) -> list[tuple[str, bytes]]:
    told = {
        "key": clip.key,
        "label": clip.label,
        "source": clip.source,
        "splits": [subset or None for subset in clip.subsets],
        "fps": clip.fps or None,
    }
    times = [] if clip.times is None else [("times.npy", npy_bytes(clip.times))]
    return [("embeddings.npy", npy_bytes(clip.embeddings)), *times, ("json", json.dumps(told).encode())]
