"""Several videos at once: what a run makes of each, and a film of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.layouts import find_layout
from ..devices import resolve_device
from ..errors import ClipError, HarCacheError, SettingError
from ..model.run import Run
from ..progress import Progress
from ..settings.evaluation import PredictSettings
from ..system import default_workers
from ..workers.pool import WorkerPool
from ..workers.tasks import embed, embed_with_thumbnails
from .film import FilmKind, choose_pictures, kind_of, write_film
from .predictor import Prediction, Predictor

_THUMBNAILS = 1000  # of a video, for a film to choose from


@dataclass(frozen=True)
class PredictReport:
    """Outcome for several videos: predictions in their order, and why the others do not decode.

    `film_bytes`: the size of the film, None where none was asked for.
    """

    run: Run
    predictions: list[Prediction]
    failures: dict[Path, str]
    film_bytes: int | None = None


def predict(settings: PredictSettings, progress: Progress = Progress()) -> PredictReport:
    """Predict each of the videos, of a folder all that are in it, in class folders or without; one that does not decode
    is told to `progress`, and left out.

    Worker processes decode and embed, each video once, on CPUs; the device is where the head computes. Raises
    HarCacheError: no such run, a film that cannot be written, no video that decodes.
    """
    settings.check()
    settings = replace(settings, videos=tuple(_videos(settings.videos)))
    kind = _kind_of_film(settings.film)
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
    written = write_film(settings.film, predictor, predictions, progress) if settings.film else None
    return PredictReport(run, predictions, failures, written)


def _videos(paths: Iterable[Path]) -> Iterator[Path]:
    """The videos at these paths, each folder's in the order of their names. Raises DataError where one holds none."""
    for path in paths:
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
            if isinstance(outcome, ClipError):
                if len(videos) == 1:
                    raise HarCacheError(f"{videos[i]}: {outcome}")
                progress.say(f"Failed: {videos[i]}: {outcome}")
                yield i, outcome
            elif kind is None:
                yield i, predictor.predict(videos[i], outcome)
            else:
                clip, thumbnails = outcome
                pictures = choose_pictures(kind, clip.frames, clip.rate, thumbnails)
                yield i, replace(predictor.predict(videos[i], clip), pictures=pictures)
            progress.advance()


def _kind_of_film(film: Path | None) -> FilmKind | None:
    """The kind of film asked for. Raises SettingError where it cannot be written: before anything is computed."""
    if film is None:
        return None
    if not film.absolute().parent.is_dir():
        raise SettingError(f"--gif {film}: no such directory: {film.parent}")
    return kind_of(film)
