"""`har-cache predict`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from har_cache.settings.evaluation import PredictSettings
from har_cache.texts import printable

from .console import SOME_FAILED, Bar, echo, print_json, say
from .options import AllowFailed, Json

if TYPE_CHECKING:
    from har_cache.prediction.predict import PredictReport
    from har_cache.prediction.predictor import Prediction

_KNOWN = {
    "seen": "the run was trained or validated on this very clip",
    "sibling": "the run was trained or validated on another clip of the same source",
}


def predict(
    settings: PredictSettings,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    allow_failed: AllowFailed = False,
    as_json: Json = False,
) -> None:
    """Name the action in videos. Nothing but the run directory is needed: no cache, no data set.

    What is true is shown where a video is in a folder named like one of the run's classes. With --every, also each part
    of a video, as if it were all of it. Exit code 3: some videos cannot be decoded, all others are done.
    """
    from har_cache.workers.pool import fork_server

    fork_server()  # imports torch in parallel with the next line
    from har_cache.prediction.predict import predict as classify

    report = classify(settings, Bar())
    if as_json:
        print_json(_content(report, top, settings))
    else:
        parts = [_text(prediction, top) for prediction in report.predictions]
        judged = [p.correct for p in report.predictions if p.correct is not None]
        if len(judged) > 1:
            parts.append(f"{sum(judged)} of {len(judged)} are right")
        echo("\n\n".join(parts))
    if settings.film and report.film_bytes is not None:
        say(f"{settings.film}: {report.film_bytes / 1e6:.1f} MB")
    if settings.csv:
        say(f"Table: {settings.csv}")
    if report.failures and not allow_failed:
        raise typer.Exit(SOME_FAILED)


def _content(report: "PredictReport", top: int, settings: PredictSettings) -> dict[str, Any]:
    found = report.to_dict(top)
    if not settings.every:
        for prediction in found["predictions"]:
            del prediction["windows"]
    film, csv = (str(path) if path else None for path in (settings.film, settings.csv))
    return {**found, "film": film, "csv": csv}


def _text(prediction: "Prediction", top: int) -> str:
    likeliest = prediction.top(top)
    wide = max(len(printable(name)) for name, _ in likeliest)
    right = "  true, right" if prediction.correct else "  true"
    lines = [
        f"  {printable(name):<{wide}}  {share:6.1%}{right if name == prediction.true else ''}".rstrip()
        for name, share in likeliest
    ]
    if prediction.true is not None and prediction.true not in [name for name, _ in likeliest]:
        lines.append(f"  true: {prediction.true}")
    if prediction.known in _KNOWN:
        lines.append(f"  note: {_KNOWN[prediction.known]}: no measure of how it does on new ones")
    for window in prediction.windows:
        [(name, share)] = prediction.top_of(window, 1)
        lines.append(f"  {window.begin:8.2f} to {window.end:8.2f} s  {printable(name):<{wide}}  {share:6.1%}")
    return "\n".join(map(printable, [str(prediction.video), *lines]))
