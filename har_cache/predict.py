"""Several videos at once: what a run makes of each, and a film of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ClipError, HarCacheError
from .film import kind_of
from .predictor import Prediction, Predictor
from .run import Run
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
) -> Report:
    """Predict each of the videos; one that does not decode is told to `say`, and left out.

    `film`: a .gif or .mp4 to write, of all of them one after another. Raises HarCacheError: no such run, a film that
    cannot be written, no video that decodes.
    """
    _check_film(film)
    predictor = Predictor(Run.open(run_path), device)
    predictions: list[Prediction] = []
    failures: dict[Path, str] = {}
    for video in videos:
        try:
            predictions.append(predictor.predict(video))
        except ClipError as error:
            if len(videos) == 1:
                raise HarCacheError(f"{video}: {error}") from error
            failures[video] = str(error)
            say(f"Failed: {video}: {error}")
    if not predictions:
        raise HarCacheError(f"none of the {len(videos)} videos can be decoded")
    written = write_film(film, predictor, predictions) if film else None
    return Report(predictor.run, predictions, failures, written)


def _check_film(film: Path | None) -> None:
    """Before anything is computed."""
    if film is None:
        return
    kind_of(film)
    if not film.absolute().parent.is_dir():
        raise HarCacheError(f"--gif {film}: no such directory: {film.parent}")
