"""Several videos at once: what a run makes of each, and a film of them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.layouts import find_layout
from ..devices import resolve_device
from ..errors import ClipError, HarCacheError, SettingError
from ..model.run import Run
from ..progress import Progress
from ..settings.evaluation import PredictSettings
from ..storage.data_frames import data_frame
from ..storage.files import write_file
from ..system import default_workers
from ..workers.pool import WorkerPool
from ..workers.tasks import embed, embed_with_thumbnails
from .film import FilmKind, choose_pictures, kind_of, write_film
from .predictor import Prediction, Predictor
from .table import to_table

if TYPE_CHECKING:
    import pandas

_THUMBNAILS = 1000  # of a video, for a film to choose from
_URL = re.compile("[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


@dataclass(frozen=True)
class PredictReport:
    """Outcome for several videos: predictions in their order, and why the others do not decode.

    `film_bytes`: the size of the film, None where none was asked for.
    """

    run: Run
    predictions: list[Prediction]
    failures: dict[Path, str]
    film_bytes: int | None = None

    def __repr__(self) -> str:
        return f"PredictReport({self.predictions}; {len(self.failures)} failed)"

    def to_dict(self, count: int | None = None) -> dict[str, Any]:
        """As JSON types; of each video all classes, or the likeliest so many."""
        return {
            "run": str(self.run.path),
            "stage": self.run.config.stage,
            "model_sha256": self.run.model_sha256,
            "predictions": [prediction.to_dict(count) for prediction in self.predictions],
            "failures": [{"video": str(video), "reason": reason} for video, reason in self.failures.items()],
        }

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a video: the likeliest class and its probability, and what is known of it. Raises HarCacheError without
        pandas.
        """
        names = ("video", "true", "correct", "known", "frames", "fps")
        table: dict[str, Any] = {name: [getattr(p, name) for p in self.predictions] for name in names}
        table["predicted"], table["probability"] = zip(*(p.top(1)[0] for p in self.predictions), strict=True)
        return data_frame(table)


def predict(settings: PredictSettings, progress: Progress = Progress()) -> PredictReport:
    """Predict each of the videos, of a folder all that are in it, in class folders or without; one that does not decode
    is told to `progress`, and left out. With `every`, each part of so many seconds too; with `csv`, all as a table.

    Worker processes decode and embed, each video once, on CPUs; the device is where the head computes. Raises
    HarCacheError: no such run, a film or a table that cannot be written, no video that decodes.
    """
    settings.check()
    kind = _kind_of_film(settings.film)
    if settings.csv:
        _check_folder("--csv", settings.csv)
    settings = replace(settings, videos=tuple(_videos(settings.videos)))
    run = Run.open(settings.run)
    # A head is sooner done with a few clips than a GPU is ready for it.
    device = "cpu" if settings.device == "auto" else resolve_device(settings.device, progress.say)
    predictor = Predictor(run, device)
    outcomes = dict(_outcomes(settings, predictor, kind, progress))
    in_order = [(video, outcomes[i]) for i, video in enumerate(settings.videos)]
    predictions = [outcome for _, outcome in in_order if isinstance(outcome, Prediction)]
    failures = {video: str(outcome) for video, outcome in in_order if isinstance(outcome, ClipError)}
    if not predictions:
        raise HarCacheError(f"none of the {len(settings.videos)} videos can be decoded")
    if settings.csv:
        write_file(settings.csv, to_table(predictions, failures, settings.every is not None))
    written = write_film(settings.film, predictor, predictions, progress) if settings.film else None
    return PredictReport(run, predictions, failures, written)


def _videos(paths: Iterable[Path]) -> Iterator[Path]:
    """The videos at these paths, each folder's in the order of their names. Raises DataError where one holds none,
    SettingError where one is a URL.
    """
    for path in paths:
        if _URL.match(str(path)) and not path.exists():
            url = str(path).replace(":/", "://", 1)  # as it was before it was taken for a path
            raise SettingError(f"VIDEO {url}: is a URL; download the video, and give its file")
        if path.is_dir():
            layout = find_layout(path)
            yield from (layout.root / place for place in sorted(layout.places.values()))
        else:
            yield path


def _outcomes(
    settings: PredictSettings, predictor: Predictor, kind: FilmKind | None, progress: Progress
) -> Iterator[tuple[int, Prediction | ClipError]]:
    """For each video, by its place: its prediction, with pictures for the film, or why it does not decode."""
    videos = settings.videos
    task, more = (embed_with_thumbnails, (kind.width, _THUMBNAILS)) if kind else (embed, ())
    calls = ((i, (video.name, video.absolute(), *more)) for i, video in enumerate(videos))
    count = min(settings.workers or default_workers(), len(videos))
    with WorkerPool(predictor.job(settings.stall_s), count) as pool, progress.task("Predicting", "video", len(videos)):
        for i, outcome in pool.run(task, calls):
            found = outcome if isinstance(outcome, ClipError) else _predicted(settings, predictor, kind, i, outcome)
            if isinstance(found, ClipError):
                if len(videos) == 1:
                    raise HarCacheError(f"{videos[i]}: {found}")
                progress.say(f"Failed: {videos[i]}: {found}")
            yield i, found
            progress.advance()


def _predicted(
    settings: PredictSettings, predictor: Predictor, kind: FilmKind | None, i: int, outcome: Any
) -> Prediction | ClipError:
    """The prediction for a video of which `outcome` is what a task gave: a clip, or for a film its thumbnails too."""
    clip, thumbnails = (outcome, {}) if kind is None else outcome
    found = predictor.predict(settings.videos[i], clip)
    try:
        windows = predictor.windows(clip, settings.every) if settings.every else ()
    except ClipError as error:
        return error
    pictures = choose_pictures(kind, clip.frames, clip.rate, thumbnails) if kind else {}
    return replace(found, windows=windows, pictures=pictures)


def _kind_of_film(film: Path | None) -> FilmKind | None:
    """The kind of film asked for. Raises SettingError where it cannot be written: before anything is computed."""
    if film is None:
        return None
    _check_folder("--gif", film)
    return kind_of(film)


def _check_folder(option: str, file: Path) -> None:
    if not file.absolute().parent.is_dir():
        raise SettingError(f"{option} {file}: no such directory: {file.parent}")
