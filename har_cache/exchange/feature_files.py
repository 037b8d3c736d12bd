"""Files of features that other tools have written: which one is of which clip, and what is in it.

video_features writes `<name of the video>_<model>.npy` (frames, dim), and beside it `_fps.npy` and `_timestamps_ms.npy`
(https://github.com/v-iashin/video_features); clip-video-encode `<name>.npy` (https://github.com/iejMac/clip-video-encode);
mmaction2 any of them, by what its features were made for.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import ClipError, DataError
from .npy import TIMES

SUFFIXES = (".npy", ".npz")
_NAMED = ("features", "embeddings")  # which array of several
_OURS, _MILLISECONDS, _FPS = TIMES, "_timestamps_ms.npy", "_fps.npy"
_BESIDE = (_OURS, _MILLISECONDS, _FPS)
_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Features:
    """Features of a clip: `embeddings` float16 (frames, dim); `times` float64 (frames), in seconds, NaN where unknown;
    `fps` 0 where unknown.
    """

    embeddings: np.ndarray
    times: np.ndarray
    fps: float


class FeatureFiles:
    """The files of features below a folder, by the clip that they are of. Raises DataError where there are none.

    Of the clip `a/b/1.avi` are, the first that is there: `a/b/1.avi.npy`, `a/b/1.npy`, `1.avi.npy`, `1.npy`, and the
    like with .npz; each with `suffix` before the dot.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder, self.suffix = folder, suffix
        self._files = dict(_below(folder))
        if not self._files:
            raise DataError(f"{folder}: holds no .npy or .npz file, in no folder below either; choose its --features")

    def find(self, clip: str) -> Path | None:
        """The file of a clip, by its path relative to the data set; None where there is none."""
        path = PurePosixPath(clip)
        names = [clip, str(path.with_suffix("")), path.name, path.stem]
        return next((self._files[wanted] for name in names if (wanted := name + self.suffix) in self._files), None)

    def expected(self, clip: str) -> Path:
        """Where the file of a clip that has none would be."""
        return self.folder / f"{PurePosixPath(clip).with_suffix('')}{self.suffix}.npy"

    def place(self, clip: str) -> object:
        """What no two clips may share."""
        return self.find(clip)

    def read(self, clip: str, fps: float | None) -> Features:
        """The features of a clip. Raises ClipError as `read_features` does."""
        path = self.find(clip)
        if path is None:
            raise ClipError(f"no features: expected {self.expected(clip).name}")
        return read_features(path, self.suffix, fps)

    def others(self, clip: str) -> str:
        """Advice where a clip has no file: a suffix that one of its name has."""
        stem = PurePosixPath(clip).stem
        endings = {
            PurePosixPath(name).name.removeprefix(stem)
            for name in self._files
            if PurePosixPath(name).name.startswith(stem)
        }
        return f"; there is {stem}{min(endings)}.npy: pass --suffix {min(endings)}" if endings else ""


def clip_of(path: str) -> str:
    """The clip that a list means by the path of a video or of a file of features."""
    return path[:-4] if path.lower().endswith(SUFFIXES) else path


def read_features(path: Path, suffix: str = "", fps: float | None = None) -> Features:
    """The features in a file, their times from the files beside it or, where there are none, at so many a second.

    Raises ClipError where it is no such file, is of another shape, or holds what float16 cannot: each in one line.
    """
    array = checked(_array(path))
    times, rate = _times(path, suffix, len(array), fps)
    return Features(array, times, rate)


def checked(array: np.ndarray) -> np.ndarray:
    """Features as float16. Raises ClipError where it is no (frames, dim) of finite numbers that float16 holds."""
    if array.ndim != 2 or not array.size:
        raise ClipError(f"shape {array.shape}: expected (frames, dim), one row a frame")
    if array.dtype.kind not in "fiu":
        raise ClipError(f"{array.dtype} numbers: expected floats")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
        raise ClipError(f"a NaN or an infinity in row {row}")
    if (largest := float(np.abs(array).max())) > _MOST:
        raise ClipError(f"numbers up to {largest:.3g}, more than float16 holds ({_MOST:.0f}): scale them down")
    return array.astype(np.float16)


def times_of(told: np.ndarray | None, frames: int, fps: float | None, name: str) -> np.ndarray:
    """When each frame is shown: as is told, else so many a second, else NaN. Raises ClipError on another number."""
    if told is None:
        return np.arange(frames) / fps if fps else np.full(frames, np.nan)
    if len(told) != frames:
        raise ClipError(f"{name} has {len(told)} times for {frames} frames")
    return told


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names of the files of features, relative to the folder and without .npy."""
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.endswith(_BESIDE) and not name.startswith("."):
                path = Path(parent, name)
                yield path.relative_to(folder).as_posix()[:-4], path


def _array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = [name for name in _NAMED if name in loaded.files] or loaded.files
            if len(names) != 1:
                raise ClipError(f"arrays {', '.join(names)}: expected one, or one called {' or '.join(_NAMED)}")
            array: np.ndarray = loaded[names[0]]
            return array
    except ClipError:
        raise
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror or 'damaged'}") from error
    except Exception as error:  # a damaged file makes numpy and zipfile raise anything
        raise ClipError("damaged, or no file of NumPy without objects in it") from error


def _times(path: Path, suffix: str, frames: int, fps: float | None) -> tuple[np.ndarray, float]:
    base = str(path)[: -4 - len(suffix)] if suffix else str(path)[:-4]
    rate = fps or 0.0
    if (beside := Path(base + _FPS)).exists():
        rate = fps or float(np.ravel(_array(beside))[0])
    for ending, unit in ((_OURS, 1.0), (_MILLISECONDS, 1e-3)):
        if (beside := Path(base + ending)).exists():
            told = np.ravel(_array(beside)).astype(np.float64) * unit
            return times_of(told, frames, fps, beside.name), rate
    return times_of(None, frames, fps, ""), rate
