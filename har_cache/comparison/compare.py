"""Runs compared: each with the first, each with each, and each with its own linear probes, on the same clips."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..settings.evaluation import CompareSettings
from ..statistics.intervals import Interval, mean_accuracy_interval
from ..storage.data_frames import data_frame
from ..storage.parsing import fields_to_json_types
from .competitors import PROBES, Competitor, clean_lists, common_lists, read_competitor, read_folds
from .paired import ClipList, Difference, difference

if TYPE_CHECKING:
    import pandas

SCHEMA = "har-comparison/1"
PROBE_TITLES = {"linear_on_mean": "linear on mean", "linear_on_moments": "linear on mean and first moment"}


@dataclass(frozen=True)
class ListSize:
    """A test list: clips that are compared, their films, and clips that only some of the runs were scored on."""

    split: int
    clips: int
    films: int
    left_out: int


@dataclass(frozen=True)
class RunFigures:
    """A run: its accuracy, its 95% interval, and how many of these clips it knew, or their sources."""

    name: str
    path: str
    top1: float
    interval: Interval | None
    known: int


@dataclass(frozen=True)
class OnClips:
    """All comparisons on the same clips. `films`: of all lists together; `differences`: of each run to the first;
    `pairs`: of each run to each before it; `linear`: of each run's linear probes to the run.
    """

    lists: tuple[ListSize, ...]
    films: int
    runs: tuple[RunFigures, ...]
    differences: tuple[Difference, ...]
    pairs: tuple[Difference, ...]
    linear: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs compared. `all_clips`, and `clean`, on those alone that no run knew before: None where all are, or none is.
    `without_linear`: runs whose evaluations do not hold what their linear probes predict; `out_of_fold`: whether the
    lists are those of training, and each clip is judged by a head that has not seen its film.
    """

    schema: str
    classes: int
    all_clips: OnClips
    clean: OnClips | None
    without_linear: tuple[str, ...]
    out_of_fold: bool = False

    def __repr__(self) -> str:
        runs = ", ".join(f"{run.name} {run.top1:.1%}" for run in self.all_clips.runs)
        return f"Comparison({runs}{'; some knew some of the clips' if self.leaks else ''})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return fields_to_json_types(self)

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a run: its accuracy, and how far and how surely it is from that of the first. Raises HarCacheError
        without pandas.
        """
        runs, others = self.all_clips.runs, [None, *self.all_clips.differences]
        table = {name: [getattr(run, name) for run in runs] for name in ("name", "path", "top1", "interval", "known")}
        for name, column in (("difference", "difference"), ("interval", "difference_interval"), ("shown", "shown")):
            table[column] = [getattr(other, name, None) for other in others]
        return data_frame(table)

    @property
    def leaks(self) -> bool:
        """Whether a run knew some of the clips, or their sources."""
        return any(run.known for run in self.all_clips.runs)


def compare(settings: CompareSettings) -> Comparison:
    """Compare runs on the clips that all of them were scored on, from their evaluations; or out of fold.

    Raises HarCacheError where a run has not been evaluated since it was trained, or there is nothing that all can be
    compared on: other classes, other test lists, no clip in common.
    """
    settings.check()
    names = short_names(settings.runs)
    competitors = [
        read_folds(path, name) if settings.out_of_fold else read_competitor(path, name, settings.split)
        for path, name in zip(settings.runs, names, strict=True)
    ]
    lists = common_lists(competitors)
    clean = clean_lists(lists, competitors)
    leaks = sum(len(clips.keys) for clips in clean) < sum(len(clips.keys) for clips in lists)
    return Comparison(
        schema=SCHEMA,
        classes=len(competitors[0].classes),
        all_clips=_on_clips(competitors, lists),
        clean=_on_clips(competitors, clean) if leaks and clean else None,
        without_linear=tuple(each.name for each in competitors if not each.linear and not settings.out_of_fold),
        out_of_fold=settings.out_of_fold,
    )


def _on_clips(competitors: Sequence[Competitor], lists: Sequence[ClipList]) -> OnClips:
    first, *others = competitors
    pairs = list(itertools.combinations(competitors, 2))

    def between(reference: Competitor, other: Competitor, comparisons: int) -> Difference:
        return difference(reference.name, other.name, reference.on(lists), other.on(lists), lists, comparisons)

    return OnClips(
        lists=tuple(ListSize(c.split, len(c.keys), len(set(c.films)), c.left_out) for c in lists),
        films=len({film for clips in lists for film in clips.films}),
        runs=tuple(_figures(each, lists) for each in competitors),
        differences=tuple(between(first, other, len(others)) for other in others),
        pairs=tuple(between(*pair, len(pairs)) for pair in pairs),
        linear=tuple(
            difference(
                each.name, f"{each.name}: {PROBE_TITLES[probe]}", each.on(lists), each.on(lists, probe), lists, 2
            )
            for each in competitors
            if each.linear
            for probe in PROBES
        ),
    )


def _figures(competitor: Competitor, lists: Sequence[ClipList]) -> RunFigures:
    right = competitor.on(lists)
    return RunFigures(
        name=competitor.name,
        path=str(competitor.path),
        top1=float(sum(each.mean() for each in right) / len(right)),
        interval=mean_accuracy_interval([(each, clips.films) for each, clips in zip(right, lists, strict=True)]),
        known=len({key for clips in lists for key in clips.keys} & competitor.known),
    )


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of directories, or, where two are alike, paths as they were given. Raises SettingError for one twice."""
    resolved = [path.resolve() for path in paths]
    if twice := next((path for i, path in enumerate(paths) if resolved[i] in resolved[:i]), None):
        raise SettingError(f"RUN... {twice}: given twice")
    names = [path.name for path in resolved]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
