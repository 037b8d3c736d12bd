"""A run as one self-contained HTML page: RUN/report.html."""

import json
from importlib.resources import files
from pathlib import Path
from string import Template

from ..data.index import read_index
from ..errors import HarCacheError
from ..files import write_file
from ..model.run import Run, split_runs
from ..progress import Progress
from . import sections
from .evaluate import METRICS, SCHEMA, Evaluation
from .page import Html, element, html
from .summary import percent

_FOOTER = (
    "Intervals are 95%, by bootstrap over sources. Chance is one in the number of classes. "
    "This page is complete in itself: it loads nothing."
)


def report(run_path: Path, data: Path | None = None, progress: Progress = Progress()) -> Path:
    """Write the page of an evaluated run, or of a run of the three splits; gives its path.

    `data`: the data set, for filmstrips of the surest mistakes. Raises HarCacheError where the run has not been
    evaluated, or `data` is no data set.
    """
    videos = {clip.key: clip.path for clip in read_index(data).clips} if data else None
    runs = [Run.open(path) for path in split_runs(run_path).values()]
    evaluations = [_evaluations(run) for run in runs]
    parts = [_run(run, found, videos, len(runs) > 1) for run, found in zip(runs, evaluations, strict=True)]
    if len(runs) > 1:
        parts.insert(0, sections.overview([found[0] for found in evaluations]))
    name = run_path.resolve().name
    title = f"{name}: {percent(evaluations[0][0].metrics['top1'])}" if len(runs) == 1 else f"{name}: {len(runs)} splits"
    page = Template(files("har_cache.evaluation").joinpath("report.html").read_text("utf-8")).substitute(
        title=html(title), header=element("h1", f"har-cache · run {name}"), body="".join(parts), footer=html(_FOOTER)
    )
    out = run_path / "report.html"
    write_file(out, page.encode())
    return out


def _evaluations(run: Run) -> list[Evaluation]:
    """All evaluations of the model that the run holds now, that on its own split first."""
    found = [_read(path) for path in sorted((run.path / "evaluate").glob(f"split*/{METRICS}"))]
    found = [evaluation for evaluation in found if evaluation.metrics["model_sha256"] == run.model_sha256]
    if not found:
        raise HarCacheError(f"{run.path} has not been evaluated yet: run `har-cache evaluate {run.path}` first")
    return sorted(found, key=lambda evaluation: evaluation.metrics["split"] != run.config.split)


def _read(path: Path) -> Evaluation:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise HarCacheError(f"{path} cannot be read ({error}); run `har-cache evaluate` again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise HarCacheError(f"{path} is of another version of har-cache; run `har-cache evaluate` again")
    return Evaluation(path.parent, content)


def _run(run: Run, evaluations: list[Evaluation], videos: dict[str, Path] | None, titled: bool) -> Html:
    metrics, folder = evaluations[0].metrics, evaluations[0].folder
    parts = [
        *([element("h2", f"Split {run.config.split}", class_="split")] if titled else []),
        sections.warnings(metrics),
        sections.lead(metrics),
        *([sections.lists(evaluations)] if len(evaluations) > 1 else []),
        sections.curves(run),
        sections.confusion(folder, metrics),
        sections.classes(folder),
        sections.tags_and_pairs(metrics),
        sections.mistakes(folder, videos),
        sections.settings(run),
    ]
    return Html("".join(parts))
