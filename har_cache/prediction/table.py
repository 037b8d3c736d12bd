"""Predictions as a table: a row per video, or per window of one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluation.tables import join_names
from ..storage.files import to_csv
from ..texts import utf8
from .predictor import Prediction

HEADER = ("video", "begin", "end", "predicted", "probability", "top5", "true", "known", "frames", "reason")
_OF_WINDOWS = ("begin", "end")
_TOP = 5


def to_table(predictions: Iterable[Prediction], failures: Mapping[Path, str], windows: bool) -> bytes:
    """A CSV in the order of the videos; those that do not decode come last, with the reason. With `windows`, a row for
    each of a video's, with its begin and end in seconds.

    `predicted`, `probability`, `top5`, `frames`: as in an evaluation's predictions.csv; `true` and `known`: empty where
    they are not known.
    """
    header = [name for name in HEADER if windows or name not in _OF_WINDOWS]
    rows = [row for prediction in predictions for row in _rows(prediction, windows)]
    rows += [{"video": utf8(str(video)), "reason": utf8(reason)} for video, reason in failures.items()]
    return to_csv(header, [[row.get(name, "") for name in header] for row in rows])


def _rows(prediction: Prediction, windows: bool) -> Iterator[dict[str, Any]]:
    of_video = {
        "video": utf8(str(prediction.video)),
        "true": prediction.true or "",
        "known": prediction.known or "",
    }
    if not windows:
        yield {**of_video, **_likeliest(prediction.top(_TOP)), "frames": prediction.frames}
    for window in prediction.windows if windows else ():
        times = {"begin": f"{window.begin:.3f}", "end": f"{window.end:.3f}"}
        yield {**of_video, **times, **_likeliest(prediction.top_of(window, _TOP)), "frames": window.frames}


def _likeliest(top: Sequence[tuple[str, float]]) -> dict[str, str]:
    (first, probability), names = top[0], [name for name, _ in top]
    return {"predicted": first, "probability": f"{probability:.6f}", "top5": join_names(names)}
