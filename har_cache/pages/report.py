"""A run, several runs, or predictions that were scored, as one self-contained HTML page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cache.manifest import read_manifest
from ..data.hmdb51 import CLASS_NAMES
from ..errors import CacheError, HarCacheError
from ..evaluation import summary
from ..evaluation.averages import summarise
from ..evaluation.results import METRICS, Evaluation, read_evaluation
from ..model.run import EVALUATIONS, REPORT, Run, find_runs
from ..model.writer import writing
from ..progress import Progress
from ..storage.files import write_file
from .about import About, about_run, about_runs, about_scored
from .copies import figures_to_copy, to_cite
from .figures import figures, test_list, training_curves
from .links import files_of_evaluation, files_of_run
from .pictures.strips import find_videos
from .rendering import render_page


def report(run_path: Path, data: Path | None = None, progress: Progress = Progress()) -> Path:
    """Write the page of an evaluated run, or of runs of several splits and seeds below a directory; gives its path.

    `data`: the data set, for film strips of the most confident errors. Raises HarCacheError where the run has not been
    evaluated, a file of the evaluation is missing or damaged, or `data` is no data set.
    """
    runs = [Run.open(path) for path in find_runs(run_path)]
    videos = find_videos(data, runs[0]) if data else None
    out = run_path / REPORT
    found = [evaluations_of(run) for run in runs]
    models = [
        {
            **figures(evaluations, videos, progress),
            "name": f"Split {run.config.split}, seed {run.config.training.seed}",
            "run": run,
            "curves": training_curves(run),
            "about": about_run(run, evaluations[0].metrics, data),
            "lost": _lost(run),
            "settings": dict(flat(run.config.to_dict())),
            "files": [
                *files_of_run(run.path, out),
                *(link for evaluation in evaluations for link in files_of_evaluation(evaluation.folder, out)),
            ],
        }
        for run, evaluations in zip(runs, found, strict=True)
    ]
    own = [each[0] for each in found]
    about = about_runs(run_path, runs, [evaluation.metrics for evaluation in own], data)
    page = _page(f"run {run_path.resolve().name}", own, models, about, with_videos=data is not None)
    with writing(run_path, progress.say):
        write_file(out, page)
    return out


def report_scored(evaluation: Evaluation, settings: Mapping[str, str]) -> Path:
    """Write the page of predictions that were scored into the folder of their evaluation; gives its path. `settings`:
    what is said of them. Raises HarCacheError as `report` does.
    """
    out = evaluation.folder / REPORT
    model = {
        **figures([evaluation], None, Progress()),
        "name": "Predictions",
        "run": None,
        "curves": (),
        "about": about_scored(evaluation.metrics, settings),
        "lost": {},
        "settings": settings,
        "files": files_of_evaluation(evaluation.folder, out),
    }
    write_file(out, _page(f"predictions {evaluation.folder.resolve().name}", [evaluation], [model], model["about"]))
    return out


def evaluations_of(run: Run) -> list[Evaluation]:
    """All evaluations of the model that the run holds now, that on its own split first. Raises HarCacheError where
    there is none, or one is damaged.
    """
    found = [read_evaluation(path.parent) for path in sorted((run.path / EVALUATIONS).glob(f"split*/{METRICS}"))]
    found = [evaluation for evaluation in found if evaluation.metrics.model_sha256 == run.model_sha256]
    if not found:
        raise HarCacheError(f"{run.path} has not been evaluated yet: run `har-cache evaluate {run.path}` first")
    return sorted(found, key=lambda evaluation: evaluation.metrics.split != run.config.split)


def _lost(run: Run) -> dict[str, str]:
    """Why clips did not decode, by key: of fine-tuning, and of the run's cache where that is still there."""
    found = dict(run.config.skipped or {})
    try:
        manifest = read_manifest(Path(run.config.cache))
    except CacheError:
        return found
    same = manifest.fingerprint == run.config.fingerprint
    return found | ({failure.key: failure.reason for failure in manifest.failures} if same else {})


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their names in config.json, with dots; without what stands elsewhere on the page or says nothing."""
    left_out = {"classes", "schema", "files", "projection_fit"} if not prefix else {"schema"}
    for key, value in values.items():
        if key in left_out or value is None:
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield from flat({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(
    title: str,
    own: Sequence[Evaluation],
    models: Sequence[Mapping[str, Any]],
    about: About,
    with_videos: bool = False,
) -> bytes:
    """`own`: of each model that on the list of its own split; `about`: of all of them."""
    warnings = list(dict.fromkeys(warning for model in models for warning in model["about"].warnings))
    named = [(model["name"] if len(models) > 1 else title, model["metrics"]) for model in models]
    classes = {row["class"] for model in models for row in model["classes"]}
    return render_page(
        "report.html",
        title=title,
        summary=summary,
        with_videos=with_videos,
        about=about,
        warnings=warnings,
        over_splits=summarise(own) if len(models) > 1 else None,
        test_lists=[test_list(evaluation.metrics) for evaluation in own],
        models=models,
        copies=figures_to_copy(title, named, warnings),
        cite=to_cite(classes == set(CLASS_NAMES)),
    )
