"""A run as one self-contained HTML page: RUN/report.html."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ..data.index import read_index
from ..data.leakage import GROUPS
from ..errors import ClipError, FileError, HarCacheError, RunError
from ..files import read_csv, read_file, write_file
from ..model.run import CURVES, EVALUATIONS, REPORT, Run, split_runs
from ..progress import Progress
from ..video.decode import read_frames, spread
from . import summary
from .evaluate import CONFUSION, PER_CLASS, PREDICTIONS
from .metrics import METRICS, Evaluation, Interval, Metrics, read_evaluation, summarise
from .scores import PER_CLASS_HEADER, PREDICTIONS_HEADER, ClassScores
from .summary import TAG_TITLES, percent

_MISTAKES = 12
_PICTURES = 6  # of a clip
_WIDTH = 160  # pixels
_QUALITY = 72


def report(run_path: Path, data: Path | None = None, progress: Progress = Progress()) -> Path:
    """Write the page of an evaluated run, or of a run of the three splits; gives its path.

    `data`: the data set, for film strips of the surest mistakes. Raises HarCacheError where the run has not been
    evaluated, a file of the evaluation is missing or damaged, or `data` is no data set.
    """
    videos = {clip.key: clip.path for clip in read_index(data).clips} if data else None
    runs = [Run.open(path) for path in split_runs(run_path).values()]
    evaluations = [_evaluations(run) for run in runs]
    own = [found[0].metrics for found in evaluations]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = percent
    template = environment.from_string(files("har_cache.evaluation").joinpath("report.html").read_text("utf-8"))
    page = template.render(
        name=run_path.resolve().name,
        over_splits=summarise(own) if len(runs) > 1 else None,
        test_lists=[_test_list(metrics) for metrics in own],
        runs=[_run(run, found, videos, progress) for run, found in zip(runs, evaluations, strict=True)],
    )
    out = run_path / REPORT
    write_file(out, page.encode())
    return out


def _evaluations(run: Run) -> list[Evaluation]:
    """All evaluations of the model that the run holds now, that on its own split first."""
    found = [read_evaluation(path.parent) for path in sorted((run.path / EVALUATIONS).glob(f"split*/{METRICS}"))]
    found = [evaluation for evaluation in found if evaluation.metrics.model_sha256 == run.model_sha256]
    if not found:
        raise HarCacheError(f"{run.path} has not been evaluated yet: run `har-cache evaluate {run.path}` first")
    return sorted(found, key=lambda evaluation: evaluation.metrics.split != run.config.split)


def _run(
    run: Run, evaluations: Sequence[Evaluation], videos: Mapping[str, Path] | None, progress: Progress
) -> dict[str, Any]:
    """What the template shows of a run."""
    metrics, folder = evaluations[0].metrics, evaluations[0].folder
    with _intact(folder / PREDICTIONS):
        wrong = _wrong(folder / PREDICTIONS)
    surest = sorted(wrong, key=lambda mistake: (-mistake.probability, mistake.key))[:_MISTAKES]
    with _intact(folder / PER_CLASS):
        classes = _class_scores(folder / PER_CLASS)
    with _intact(folder / CONFUSION):
        confusion = _png(folder / CONFUSION)
    notes = [*filter(None, [summary.leak_warning(metrics)]), *summary.notes(metrics)]
    return {
        "path": run.path,
        "config": run.config,
        "settings": _flat({name: value for name, value in run.config.to_dict().items() if name != "classes"}),
        "curves": _png(run.path / CURVES) if (run.path / CURVES).exists() else None,
        "metrics": metrics,
        "leaking": metrics.leakage.leaks,
        "between": summary.between(metrics.interval),
        "bars": _bars(metrics),
        "warnings": [note for note in notes if "WARNING" in note],
        "facts": _facts(metrics, [note for note in notes if "WARNING" not in note]),
        "test_lists": [_test_list(evaluation.metrics) for evaluation in evaluations],
        "confusion": confusion,
        "classes": classes,
        "tags": [{**vars(row), "tag": f"{TAG_TITLES.get(row.tag, row.tag)}: {row.value}"} for row in metrics.tags],
        "pairs": [{**vars(pair), "pair": f"{pair.true} as {pair.predicted}"} for pair in metrics.confused],
        "wrong": len(wrong),
        "mistakes": list(zip(surest, _strips(surest, videos, progress), strict=True)),
        "with_videos": videos is not None,
    }


def _bars(metrics: Metrics) -> list[tuple[str, float | None, Interval | None, bool]]:
    """What the figure is held against: label, share, interval, and whether it is there for comparison only."""
    groups = [getattr(metrics.leakage, group) for group in GROUPS]
    words = ("seen clips", "siblings", "clean clips")
    leaking = [
        (f"on {group.clips:,} {what}", group.top1, group.interval, False)
        for group, what in zip(groups, words, strict=True)
        if group.clips and metrics.leakage.leaks
    ]
    linear = metrics.linear_on_mean
    return [
        ("this model", metrics.top1, metrics.interval, False),
        *leaking,
        ("linear on mean embedding", linear and linear.top1, linear and linear.interval, True),
        ("chance", metrics.chance, None, True),
    ]


def _facts(metrics: Metrics, notes: Sequence[str]) -> list[str]:
    """How the figure was come by, and what else was measured."""
    figures = (
        f"Top-5 {percent(metrics.top5)}, macro F1 {percent(metrics.macro_f1)}, mean class accuracy "
        f"{percent(metrics.mean_class_accuracy)}, loss {metrics.loss:.3f}"
    )
    gain = filter(None, [summary.gain(metrics)])
    return [summary.leakage(metrics), summary.protocol(metrics), *gain, *notes, figures]


def _test_list(metrics: Metrics) -> dict[str, Any]:
    """The row of a test list, beside others."""
    groups = metrics.leakage
    return {
        "list": f"split {metrics.split} (trained on {metrics.trained_on})",
        "clips": metrics.clips,
        "top1": metrics.top1,
        **{group: getattr(groups, group).clips for group in GROUPS},
        "clean_top1": groups.clean.top1,
        "linear": metrics.linear_on_mean and metrics.linear_on_mean.top1,
    }


@dataclass(frozen=True)
class Mistake:
    """A clip that was taken for another class, and how sure the model was of that. `subset`: seen, sibling or clean."""

    key: str
    true: str
    predicted: str
    probability: float
    subset: str
    frames: int


@dataclass(frozen=True)
class FilmStrip:
    """Frames of a clip as JPEG data URIs; or the reason why there are none, which is empty without a data set."""

    pictures: Sequence[str] = ()
    reason: str = ""


def _strips(mistakes: Sequence[Mistake], videos: Mapping[str, Path] | None, progress: Progress) -> list[FilmStrip]:
    if videos is None:
        return [FilmStrip()] * len(mistakes)
    strips = []
    with progress.task("Film strips", "clip", len(mistakes)):
        for mistake in mistakes:
            strips.append(_strip(videos.get(mistake.key), mistake.frames))
            progress.advance()
    return strips


def _strip(video: Path | None, frames: int) -> FilmStrip:
    if video is None:
        return FilmStrip(reason="Not in this data set")
    try:
        return FilmStrip([_jpeg(frame) for frame in read_frames(video, spread(frames, _PICTURES))])
    except ClipError as error:
        return FilmStrip(reason=f"Cannot be decoded: {error}")


def _jpeg(frame: np.ndarray) -> str:
    picture = Image.fromarray(frame)
    height = max(1, round(_WIDTH * picture.height / picture.width))
    file = io.BytesIO()
    picture.resize((_WIDTH, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(read_file(path)).decode()}"


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Raise RunError where a file of an evaluation is missing or damaged."""
    try:
        yield
    except FileError as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); run `har-cache evaluate` again") from error


def _wrong(path: Path) -> list[Mistake]:
    """The wrong predictions of a predictions.csv. Raises FileError and ValueError."""
    return [
        Mistake(key, true, predicted, float(probability), subset, int(frames))
        for key, true, predicted, probability, _, subset, frames in _rows(path, PREDICTIONS_HEADER)
        if true != predicted
    ]


def _class_scores(path: Path) -> list[ClassScores]:
    """The rows of a per_class.csv. Raises FileError and ValueError."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    return [
        ClassScores(name, int(support), number(precision), number(recall), float(f1), mostly)
        for name, support, precision, recall, f1, mostly in _rows(path, PER_CLASS_HEADER)
    ]


def _rows(path: Path, header: Sequence[str]) -> list[list[str]]:
    rows = read_csv(path)
    if not rows or tuple(rows[0]) != tuple(header):
        raise ValueError(f"expected {','.join(header)}")
    return rows[1:]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values in one list; their names are those on the way to them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        flat.update(_flat(value, f"{name}: ") if isinstance(value, Mapping) else {name: value})
    return flat
