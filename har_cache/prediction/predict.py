"""Several videos at once: what a run makes of each, and a film of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ClipError, HarCacheError
from ..model.run import Run
from ..system import default_workers
from ..workers.pool import Workers
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


def predict(
    run_path: Path,
    videos: Sequence[Path],
    film: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    stall_s: float = 60.0,
) -> Report:
    """Predict each of the videos; one that does not decode is told to `say`, and left out.

    `film`: a .gif or .mp4 to write, of all of them one after another; `stall_s`: seconds without a frame after which a
    decoder is taken to hang. Raises HarCacheError: no such run, a film that cannot be written, no video that decodes.
    """
    _check_film(film)
    run = Run.open(run_path)
    predictor = Predictor(run, device)
    failures = _failures(videos, stall_s)
    for video, reason in failures.items():
        if len(videos) == 1:
            raise HarCacheError(f"{video}: {reason}")
        say(f"Failed: {video}: {reason}")
    predictions = [predictor.predict(video) for video in videos if video not in failures]
    if not predictions:
        raise HarCacheError(f"none of the {len(videos)} videos can be decoded")
    written = write_film(film, predictor, predictions) if film else None
    return Report(predictor.run, predictions, failures, written)


def _failures(videos: Sequence[Path], stall_s: float) -> dict[Path, str]:
    """Which videos a worker process could not decode, and why: what crashes a decoder would take this process along."""
    with Workers(Job("pyav", stall_s=stall_s), default_workers()) as pool:
        outcomes = dict(pool.run(count, ((video, (video.absolute(),)) for video in videos)))
    return {video: str(outcomes[video]) for video in videos if isinstance(outcomes[video], ClipError)}


def _check_film(film: Path | None) -> None:
    """Before anything is computed."""
    if film is None:
        return
    kind_of(film)
    if not film.absolute().parent.is_dir():
        raise HarCacheError(f"--gif {film}: no such directory: {film.parent}")
