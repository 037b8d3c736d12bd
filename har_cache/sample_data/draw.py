"""Draws a small video data set in HMDB51's own layout, to try everything on without a download.

OUT/videos/<class>/<name>.avi are the clips, OUT/splits/<class>_test_split{1,2,3}.txt the split lists, and
OUT/sample.json, written last, says with which settings they were drawn.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av

from ..data.hmdb51 import list_name
from ..data.index import SAMPLE_RECORD
from ..data.keys import class_of
from ..errors import ClipError, HarCacheError
from ..progress import Progress
from ..settings.names import SPLITS
from ..settings.tools import SampleSettings
from ..storage.files import make_directory, remove_file, remove_temporaries, to_json, write_file
from ..system import cores
from ..workers.pool import WorkerDiedError, WorkerPool
from ..workers.watchdog import Sandbox
from .painting import HEIGHT, WIDTH
from .plan import Performance, plan

FPS = 30

_MARKER = f"{SAMPLE_RECORD}.partial"  # stands in for the record until everything else is there
_FORMAT = 3  # raise it whenever the same settings come to draw other bytes
_CLIPS, _HARD_CLIPS = 80, 40  # of each class
_QUANTISER = {"goo": 3, "med": 5, "bad": 7}


@dataclass(frozen=True)
class SampleReport:
    """Sample on disk: clips and frames are those of all classes together."""

    classes: int
    clips: int
    frames: int
    path: Path


def draw(settings: SampleSettings, progress: Progress = Progress()) -> SampleReport:
    """Draw a sample data set into a folder.

    The same settings give the same bytes on one machine, whatever the number of workers. An interrupted draw is
    finished by the next one; a finished one is left as it is. Raises HarCacheError when the settings cannot be met,
    when the folder holds anything else, and when it cannot be written.
    """
    settings.check()
    clips = settings.clips or (_HARD_CLIPS if settings.hard else _CLIPS)
    content = {"format": _FORMAT, "classes": settings.classes, "clips": clips, "seed": settings.seed}
    record = to_json({**content, "hard": True} if settings.hard else content)
    plans = [plan(pair, clips, settings.seed, settings.hard) for pair in range(settings.classes // 2)]
    performances = [performance for planned in plans for performance in planned]
    if _begin(settings.out, record):
        _write_clips(settings.out / "videos", performances, settings.workers or cores(), progress)
        _write_splits(settings.out / "splits", performances)
        write_file(settings.out / SAMPLE_RECORD, record)
        remove_file(settings.out / _MARKER)
    frames = sum(p.frames * len(p.names) for p in performances)
    return SampleReport(settings.classes, settings.classes * clips, frames, settings.out)


def _begin(out: Path, settings: bytes) -> bool:
    """Mark the folder as the sample's; false when it is complete already."""
    try:
        occupied = out.exists() and any(out.iterdir())
        found = next((path for path in (out / SAMPLE_RECORD, out / _MARKER) if path.is_file()), None)
        same = found is not None and found.read_bytes() == settings
    except OSError as error:
        raise HarCacheError(f"{out}: cannot be read: {error.strerror}; choose another folder") from error
    if occupied and found is None:
        raise HarCacheError(f"{out}: not empty, and not a sample; choose another folder")
    if occupied and not same:
        raise HarCacheError(f"{out}: holds a sample drawn with other settings; choose another folder")
    if not occupied:
        make_directory(out)
        write_file(out / _MARKER, settings)
    return found != out / SAMPLE_RECORD


def _write_splits(folder: Path, performances: Iterable[Performance]) -> None:
    make_directory(folder)
    clips = sorted((name, p.splits) for p in performances for name in p.names)
    for action, of_class in groupby(clips, key=lambda clip: class_of(clip[0])):
        named = [(Path(name).name, subsets) for name, subsets in of_class]
        for k in SPLITS:
            lines = [f"{file} {subsets[k - 1]} \n" for file, subsets in named]
            write_file(folder / list_name(action, k), "".join(lines).encode())


def _write_clips(videos: Path, performances: Sequence[Performance], workers: int, progress: Progress) -> None:
    for folder in {videos / Path(name).parent for p in performances for name in p.names}:
        make_directory(folder)
        remove_temporaries(folder)
    todo = [p for p in performances if not all((videos / name).is_file() for name in p.names)]
    clips, left = (sum(len(p.names) for p in some) for some in (performances, todo))
    workers = min(workers, len(todo))
    with progress.task("Drawing", "clip", clips, clips - left):
        if workers <= 1:
            for performance in todo:
                _draw_one(videos, performance)
                progress.advance(len(performance.names))
            return
        with WorkerPool(Sandbox(), workers) as pool:
            for names, outcome in pool.run(_draw_one, ((p.names, (videos, p)) for p in todo)):
                if isinstance(outcome, WorkerDiedError):
                    raise HarCacheError(
                        "a drawing process died, perhaps for lack of memory: run again with fewer workers to finish"
                    )
                if isinstance(outcome, ClipError):
                    raise HarCacheError(str(outcome))
                progress.advance(len(names))


def _draw_one(videos: Path, performance: Performance) -> None:
    """Draw one performance, and write its clips."""
    p = performance
    frames = [
        av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p") for picture in p.pictures()
    ]
    for name, ordered in ((p.forwards, frames), (p.backwards, frames[::-1])):
        if name is not None:
            write_file(videos / name, _encode(ordered, _QUANTISER[p.look.quality]))


def _encode(frames: Iterable[av.VideoFrame], quantiser: int) -> bytes:
    """An AVI file of MPEG-4 Part 2. One thread and no version strings: the same bytes every time."""
    file = io.BytesIO()
    options = {"qmin": str(quantiser), "qmax": str(quantiser), "flags": "+bitexact"}
    with av.open(file, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for i, frame in enumerate(frames):
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
