"""A run, or predictions that were scored, as one self-contained HTML page: report.html."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..cache.manifest import read_manifest
from ..data.index import read_index
from ..data.leakage import GROUPS
from ..errors import CacheError, ClipError, FileError, HarCacheError, RunError
from ..evaluation import summary
from ..evaluation.averages import summarise
from ..evaluation.results import METRICS, Evaluation, Metrics, read_evaluation
from ..evaluation.tables import CONFUSION, PER_CLASS, PER_CLASS_HEADER, read_rows
from ..model.run import CURVES, EVALUATIONS, REPORT, Run, find_runs
from ..model.writer import writing
from ..progress import Progress
from ..storage.files import read_file, write_file
from ..video.decode import read_frames, spread
from .rendering import render_page

_MISTAKES = 12
_PICTURES = 6  # of a clip
_WIDTH, _HEIGHT = 160, 320  # pixels, at most
_QUALITY = 72


def report(run_path: Path, data: Path | None = None, progress: Progress = Progress()) -> Path:
    """Write the page of an evaluated run, or of runs of several splits; gives its path.

    `data`: the data set, for film strips of the surest mistakes. Raises HarCacheError where the run has not been
    evaluated, a file of the evaluation is missing or damaged, or `data` is no data set.
    """
    runs = [Run.open(path) for path in find_runs(run_path)]
    videos = _videos(data, runs[0]) if data else None
    evaluations = [_evaluations(run) for run in runs]
    own = [found[0] for found in evaluations]
    shown = [_run(run, found, videos, progress) for run, found in zip(runs, evaluations, strict=True)]
    page = _page(f"run {run_path.resolve().name}", own, shown, videos)
    out = run_path / REPORT
    with writing(run_path, progress.say):
        write_file(out, page)
    return out


def _videos(data: Path, run: Run) -> Mapping[str, Path]:
    """The clips of the data set that are on disk, by key: where the run's cache says, or else in class folders."""
    try:
        places = read_manifest(Path(run.config.cache)).paths
    except CacheError:  # it has moved, say
        places = {}
    files = {key: data / place for key, place in places.items()}
    return {key: path for key, path in files.items() if path.exists()} if places else read_index(data).paths


def report_scored(evaluation: Evaluation, settings: Mapping[str, str]) -> Path:
    """Write the page of predictions that were scored into the folder of their evaluation; gives its path. `settings`:
    what is said of them. Raises HarCacheError as `report` does.
    """
    shown = {**_figures([evaluation], None, Progress()), "training": None, "settings": settings}
    out = evaluation.folder / REPORT
    write_file(out, _page(f"predictions {evaluation.folder.resolve().name}", [evaluation], [shown], None))
    return out


def _page(
    title: str, own: Sequence[Evaluation], runs: Sequence[Mapping[str, Any]], videos: Mapping[str, Path] | None
) -> bytes:
    """`own`: of each run that on the list of its own split."""
    return render_page(
        "har_cache.pages",
        "report.html",
        title=title,
        summary=summary,
        with_videos=videos is not None,
        over_splits=summarise(own) if len(runs) > 1 else None,
        test_lists=[_test_list(evaluation.metrics) for evaluation in own],
        runs=runs,
    )


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
    """Context of the template for a run. Raises RunError where a file of its evaluation is missing or damaged."""
    curves = run.path / CURVES
    training = {"path": run.path, "config": run.config, "curves": _png(curves) if curves.exists() else None}
    return {**_figures(evaluations, videos, progress), "training": training, "settings": run.config.to_dict()}


def _figures(
    evaluations: Sequence[Evaluation], videos: Mapping[str, Path] | None, progress: Progress
) -> dict[str, Any]:
    metrics, folder = evaluations[0].metrics, evaluations[0].folder
    try:
        classes = read_rows(folder / PER_CLASS, PER_CLASS_HEADER)
        confusion = _png(folder / CONFUSION)
    except FileError as error:
        raise RunError(f"{error}; run `har-cache evaluate` again") from error
    wrong = [prediction for prediction in evaluations[0].predictions if not prediction.correct]
    surest = [vars(p) for p in sorted(wrong, key=lambda p: (-(p.probability or 0.0), p.key))[:_MISTAKES]]
    return {
        "metrics": metrics,
        "test_lists": [_test_list(evaluation.metrics) for evaluation in evaluations],
        "confusion": confusion,
        "classes": classes,
        "tags": [{**vars(t), "tag": f"{summary.TAG_TITLES.get(t.tag, t.tag)}: {t.value}"} for t in metrics.tags],
        "pairs": [{**vars(pair), "pair": f"{pair.true} as {pair.predicted}"} for pair in metrics.confused],
        "wrong": len(wrong),
        "mistakes": surest if videos is None else list(_with_film_strips(surest, videos, progress)),
    }


def _test_list(metrics: Metrics) -> dict[str, Any]:
    """The row of a test list, beside others."""
    groups = metrics.leakage
    return {
        "list": f"split {metrics.split} (trained on {metrics.trained_on}{_seed(metrics)})",
        "clips": metrics.clips,
        "top1": metrics.top1,
        **{group: getattr(groups, group).clips for group in GROUPS},
        "clean_top1": groups.clean.top1,
        "other_class": groups.other_class and groups.other_class.clips,
        "other_class_top1": groups.other_class and groups.other_class.top1,
        "linear_on_mean": metrics.linear_on_mean and metrics.linear_on_mean.top1,
        "linear_on_moments": metrics.linear_on_moments and metrics.linear_on_moments.top1,
    }


def _seed(metrics: Metrics) -> str:
    return f", seed {metrics.seed}" if metrics.seed else ""


def _with_film_strips(
    mistakes: Sequence[dict[str, Any]], videos: Mapping[str, Path], progress: Progress
) -> Iterator[dict[str, Any]]:
    """The mistakes, each with `pictures`, frames of the clip as JPEG data URIs, or the `reason` why there are none."""
    with progress.task("Film strips", "clip", len(mistakes)):
        for mistake in mistakes:
            yield {**mistake, **_film_strip(videos.get(mistake["key"]), mistake["frames"])}
            progress.advance()


def _film_strip(video: Path | None, frames: int) -> dict[str, Any]:
    if video is None:
        return {"reason": "Not in this data set"}
    try:
        return {"pictures": [_jpeg(frame) for frame in read_frames(video, spread(frames, _PICTURES))]}
    except ClipError as error:
        return {"reason": f"Cannot be decoded: {error}"}


def _jpeg(frame: np.ndarray) -> str:
    picture = Image.fromarray(frame)
    scale = min(_WIDTH / picture.width, _HEIGHT / picture.height)
    sides = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    file = io.BytesIO()
    picture.resize(sides, Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(read_file(path)).decode()}"
