"""Features as one .npy a clip, for whatever reads NumPy's files, and a table of the clips."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..cache.reader import FeatureCache
from ..storage.files import make_directory, to_csv, write_file
from .clips import SUBSET_WORDS, ClipFeatures
from .formats import FeatureFormat

TABLE = "clips.csv"
TIMES = ".times.npy"


class NpyFormat(FeatureFormat):
    """`<class>/<file name>.npy`, float16 (frames, dim); `<class>/<file name>.times.npy`, float64 (frames), in seconds;
    and `clips.csv`, as `--list` reads it: path, label, source, and the clip's subset in each split.
    """

    def files(self, name: str, keys: Sequence[str]) -> list[str]:
        """Those with the embeddings."""
        return [f"{key}.npy" for key in keys]

    def write(self, folder: Path, name: str, clips: Sequence[ClipFeatures]) -> None:
        """Two files a clip, that with the embeddings last."""
        for clip in clips:
            path = folder / f"{clip.key}.npy"
            make_directory(path.parent)
            if clip.times is not None:
                write_file(folder / f"{clip.key}{TIMES}", npy_bytes(clip.times))
            write_file(path, npy_bytes(clip.embeddings))

    def finish(self, folder: Path, cache: FeatureCache) -> None:
        """The table."""
        header = ("path", "label", "source", *(f"split{split}" for split in cache.splits))
        rows = [
            (
                f"{key}.npy",
                cache.classes[label],
                source.partition("/")[2],
                *(SUBSET_WORDS[int(subset)] for subset in subsets),
            )
            for key, label, source, subsets in zip(
                cache.clip_keys, cache.labels, cache.sources, cache.subsets, strict=True
            )
        ]
        write_file(folder / TABLE, to_csv(header, rows))


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
