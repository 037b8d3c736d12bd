"""Several videos at once: what a run makes of each, and a film of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClipError, HarCacheError
from ..model.run import Run
from ..progress import Progress
from ..settings import PredictSettings
from ..system import default_workers
from ..workers.pool import WorkerPool
from ..workers.tasks import Job, count
from .film import kind_of
from .predictor import Prediction, Predictor
from .scene import write_film


@dataclass(frozen=True)
class Report:
    """What came of several videos: predictions in their order, and why the others do not decode.

    `film_bytes`: the size of the film, None where none was asked for.
    """

    run: Run
    predictions: list[Prediction]
    failures: dict[Path, str]
    film_bytes: int | None = None


def predict(settings: PredictSettings, progress: Progress = Progress()) -> Report:
    """Predict each of the videos; one that does not decode is told to `progress`, and left out.

    Raises HarCacheError: no such run, a film that cannot be written, no video that decodes.
    """
    settings.check()
    _check_film(settings.film)
    run = Run.open(settings.run)
    predictor = Predictor(run, settings.device)
    videos = settings.videos
    failures = _failures(videos, settings.stall_s)
    for video, reason in failures.items():
        if len(videos) == 1:
            raise HarCacheError(f"{video}: {reason}")
        progress.say(f"Failed: {video}: {reason}")
    predictions = [predictor.predict(video) for video in videos if video not in failures]
    if not predictions:
        raise HarCacheError(f"none of the {len(videos)} videos can be decoded")
    written = write_film(settings.film, predictor, predictions) if settings.film else None
    return Report(predictor.run, predictions, failures, written)


def _failures(videos: Sequence[Path], stall_s: float) -> dict[Path, str]:
    """Which videos a worker process could not decode, and why: what crashes a decoder would take this process along."""
    with WorkerPool(Job("pyav", stall_s=stall_s), default_workers()) as pool:
        outcomes = dict(pool.run(count, ((video, (video.absolute(),)) for video in videos)))
    return {video: str(outcomes[video]) for video in videos if isinstance(outcomes[video], ClipError)}


def _check_film(film: Path | None) -> None:
    """Before anything is computed."""
    if film is None:
        return
    kind_of(film)
    if not film.absolute().parent.is_dir():
        raise HarCacheError(f"--gif {film}: no such directory: {film.parent}")
