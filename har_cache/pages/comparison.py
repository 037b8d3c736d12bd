"""Several runs as one self-contained HTML page: what each is, their mean and spread, and how far they are apart."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comparison import summary as comparison_summary
from ..comparison import words
from ..comparison.compare import Comparison, OnClips, compare, short_names
from ..comparison.paired import Difference
from ..data.hmdb51 import CLASS_NAMES
from ..errors import HarCacheError, SettingError
from ..evaluation import summary
from ..evaluation.averages import summarise
from ..evaluation.results import Evaluation
from ..model.run import Run, find_runs
from ..progress import Progress
from ..settings.evaluation import CompareSettings
from ..statistics.intervals import Interval
from ..storage.files import write_file
from ..storage.history import TRAINED, read_history
from . import report as report_of_one
from .about import About, about_runs, duration, shared_facts
from .copies import figures_to_copy, to_cite
from .links import page_of_run
from .rendering import render_page

PAGE = "comparison.html"
_LEAST_SCALE = 0.01
_OWN = ("split", "training.seed", "model_sha256", "best.", "out_of_fold.", "choice.", "skipped.")  # of each run


@dataclass(frozen=True)
class Mark:
    """A difference on a scale that ends at both sides of 0; in percent of its width, from its left end."""

    point: float
    start: float
    width: float


@dataclass(frozen=True)
class Row:
    """A difference, what to call it, and its mark."""

    name: str
    difference: Difference
    mark: Mark


@dataclass(frozen=True)
class Group:
    """Differences on one scale, from `-end` to `end`, in points; `notes`: what the figures mean."""

    title: str
    rows: tuple[Row, ...]
    end: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Shown:
    """A run, or those of several splits and seeds below a directory; `own`: of each that on the list of its own split,
    none where they are compared out of fold.
    """

    name: str
    path: Path
    runs: tuple[Run, ...]
    own: tuple[Evaluation, ...]

    @property
    def about(self) -> About:
        metrics = [evaluation.metrics for evaluation in self.own]
        return about_runs(self.path, self.runs, metrics or [None] * len(self.runs))

    @property
    def settings(self) -> dict[str, str]:
        """Those that it may differ in from others that are not the same but for split and seed."""
        return {n: v for n, v in report_of_one.flat(self.runs[0].config.to_dict()) if not n.startswith(_OWN)}


def write_report(
    runs: Sequence[Path], data: Path | None = None, out: Path | None = None, progress: Progress = Progress()
) -> Path:
    """Write the page of one run, as `report` does, or that of several, as `report_runs` does; gives its path.

    Raises HarCacheError as they do, and where `data` is given with several runs, or `out` with one.
    """
    if not runs:
        raise SettingError("RUN...: expected one or more")
    if len(runs) > 1 and data:
        raise SettingError("--data goes with one run: the page of several shows no clips")
    if len(runs) == 1 and out:
        raise SettingError("--out goes with several runs: the page of one is RUN/report.html")
    return report_runs(runs, out) if len(runs) > 1 else report_of_one.report(runs[0], data, progress)


def report_runs(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of several runs, by default into the directory that all of them are below; gives its path.

    Raises HarCacheError where a run has not been evaluated since it was trained, or they are not of the same data set.
    """
    out = out or Path(os.path.commonpath([path.absolute().parent for path in paths])) / PAGE
    shown = [_shown(name, path) for name, path in zip(short_names(paths), paths, strict=True)]
    for each in shown[1:]:
        if each.runs[0].config.classes != shown[0].runs[0].config.classes:
            what = "they know other classes; choose runs of the same data set"
            raise HarCacheError(f"cannot compare {each.path} with {shown[0].path}: {what}")
    lists = {frozenset(evaluation.metrics.split for evaluation in each.own) for each in shown}
    comparison = compare(CompareSettings(runs=tuple(paths))) if len(lists) == 1 else None
    write_file(out, _page(shown, comparison, out))
    return out


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison. Raises HarCacheError where a run is damaged, or the page cannot be written."""
    runs = comparison.all_clips.runs
    shown = [_shown(run.name, Path(run.path), not comparison.out_of_fold) for run in runs]
    write_file(path, _page(shown, comparison, path))


def groups(on: OnClips) -> list[Group]:
    """The differences of the runs to each other, and of the linear probes to their runs."""
    pairs = [(f"{each.name} less {each.reference}", each) for each in on.pairs]
    linear = [(f"{words.short_name(each)} less {each.reference}", each) for each in on.linear]
    found = [("Runs, each with each", pairs), ("Linear probes, each with its run", linear)]
    return [_group(title, differences) for title, differences in found if differences]


def _shown(name: str, path: Path, evaluated: bool = True) -> _Shown:
    runs = tuple(Run.open(each) for each in find_runs(path))
    return _Shown(name, path, runs, tuple(report_of_one.evaluations_of(run)[0] for run in runs) if evaluated else ())


def _page(shown: Sequence[_Shown], comparison: Comparison | None, out: Path) -> bytes:
    abouts = [each.about for each in shown]
    warnings = list(dict.fromkeys(warning for about in abouts for warning in about.warnings))
    warnings += comparison_summary.warnings(comparison) if comparison else []
    models = [(each, run, own) for each in shown for run, own in zip(each.runs, each.own, strict=False)]
    named = [(_model_name(each, run), own.metrics) for each, run, own in models]
    apart = len({(run.config.split, run.config.training.seed) for _, run, _ in models}) == len(models)
    alike = apart and len({tuple(each.settings.items()) for each in shown}) == 1
    return render_page(
        "comparison.html",
        title=f"comparison of {', '.join(each.name for each in shown)}",
        summary=summary,
        words=words,
        warnings=warnings,
        facts=shared_facts(abouts),
        commands=list(dict.fromkeys(command for about in abouts for command in about.commands)),
        rows=[_row(each, about, out) for each, about in zip(shown, abouts, strict=True) if each.own],
        together=summarise([own for *_, own in models]) if alike and len(models) > 1 else None,
        names=[each.name for each in shown],
        paths=[(each.name, each.path) for each in shown],
        settings=_differing(shown),
        comparison=comparison,
        parts=_parts(comparison) if comparison else [],
        copies=figures_to_copy("Runs", named, warnings) if named else (),
        cite=to_cite(set(shown[0].runs[0].config.classes) == set(CLASS_NAMES)),
    )


def _parts(comparison: Comparison) -> list[tuple[str, str, OnClips, list[Group]]]:
    """All clips and, where some leak, the clean ones alone: title, which clips, figures, differences."""
    found = [("", comparison.all_clips), ("Clean clips alone", comparison.clean)]
    return [(title, comparison_summary.where(comparison, on), on, groups(on)) for title, on in found if on]


def _row(shown: _Shown, about: About, out: Path) -> dict[str, Any]:
    """A run in the table: the mean of its models, where there are several."""
    all_metrics = [evaluation.metrics for evaluation in shown.own]
    several = summarise(shown.own) if len(shown.own) > 1 else None
    first, events = all_metrics[0], [read_history(run.path).get(TRAINED) for run in shown.runs]
    top1, clean = (several["top1"], several["clean_top1"]) if several else (None, None)
    return {
        "name": shown.name,
        "page": page_of_run(shown.path, out),
        "splits": ", ".join(map(str, sorted({metrics.split for metrics in all_metrics}))),
        "seeds": ", ".join(map(str, sorted({run.config.training.seed for run in shown.runs}))),
        "models": len(shown.own),
        "leaks": any(metrics.leakage.leaks for metrics in all_metrics),
        "top1": top1["mean"] if top1 else first.top1,
        "interval": top1["interval"] if top1 else first.interval,
        "clean": clean["mean"] if clean else first.leakage.clean.top1,
        "spread": several["seeds"] if several else None,
        "model": about.facts.get("Model", ""),
        "seconds": duration(sum(event.seconds for event in events if event)) if all(events) else None,
    }


def _model_name(shown: _Shown, run: Run) -> str:
    which = f", split {run.config.split}, seed {run.config.training.seed}" if len(shown.runs) > 1 else ""
    return f"{shown.name}{which}"


def _differing(shown: Sequence[_Shown]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same of all, with the value of each run."""
    all_settings = [each.settings for each in shown]
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    found = [(name, [settings.get(name, "-") for settings in all_settings]) for name in names]
    return [(name, values) for name, values in found if len(set(values)) > 1]


def _group(title: str, named: Sequence[tuple[str, Difference]]) -> Group:
    differences = [difference for _, difference in named]
    ends = [abs(end) for each in differences for end in (each.difference, *(each.interval or ()))]
    scale = max(_LEAST_SCALE, *ends) * 1.05
    rows = tuple(Row(name, each, _mark(each.difference, each.interval, scale)) for name, each in named)
    return Group(title, rows, f"{100 * scale:.0f}" if scale >= 0.1 else f"{100 * scale:.1f}", words.notes(differences))


def _mark(difference: float, interval: Interval | None, scale: float) -> Mark:
    point, start, end = (50 + 50 * share / scale for share in (difference, *(interval or (difference, difference))))
    return Mark(point, start, end - start)
