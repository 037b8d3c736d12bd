"""Figures: runs, and predictions of any model, scored, compared and put on a page."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..errors import HarCacheError
from ..progress import Progress
from ..settings.evaluation import CompareSettings, EvaluateSettings, ScoreSettings
from ..storage.data_frames import data_frame
from ..system import uninterrupted
from .keywords import PathLike, command, settings
from .listener import listener

if TYPE_CHECKING:
    import pandas

    from ..comparison.compare import Comparison
    from ..evaluation.results import Evaluation, Metrics
    from ..scoring.score import Score


@dataclass(frozen=True)
class Evaluations(Sequence["Evaluation"]):
    """What `evaluate` gives: an evaluation of each run in the directory, in order, mostly of one."""

    evaluations: "tuple[Evaluation, ...]"

    @property
    def metrics(self) -> "Metrics":
        """The figures, where there is one run.

            accuracy = har_cache.evaluate("data/runs/sample").metrics.top1

        Raises HarCacheError where there are several, whose means `to_dict` has.
        """
        if len(self.evaluations) > 1:
            raise HarCacheError(f"{len(self)} runs were evaluated: take the metrics of each, or to_dict() of all")
        return self.evaluations[0].metrics

    @overload
    def __getitem__(self, index: int) -> "Evaluation": ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[Evaluation]": ...

    def __getitem__(self, index: int | slice) -> "Evaluation | Sequence[Evaluation]":
        return self.evaluations[index]

    def __len__(self) -> int:
        return len(self.evaluations)

    def __iter__(self) -> "Iterator[Evaluation]":
        return iter(self.evaluations)

    def __repr__(self) -> str:
        return f"Evaluations({', '.join(map(repr, self.evaluations))})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, as `har-cache evaluate --json` has it: the figures, or of several runs their means and all."""
        from ..evaluation.averages import summarise

        each = [evaluation.to_dict() for evaluation in self.evaluations]
        return {**summarise(self.evaluations), "runs": each} if len(each) > 1 else each[0]

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a clip of each run: what it shows, what it was taken for, and what the model knew of it. Raises
        HarCacheError without pandas.
        """
        tables = [evaluation.to_pandas().assign(run=str(evaluation.folder.parents[1])) for evaluation in self]
        return data_frame({name: [value for table in tables for value in table[name]] for name in tables[0]})


@command(EvaluateSettings)
def evaluate(run: PathLike, *, progress: bool | Progress = True, **options: Any) -> Evaluations:
    """Score a run, or each run of a directory, on a test list, and say how much of that list it knew before.

        found = har_cache.evaluate("data/runs/sample")
        print(found.metrics.top1, found.metrics.leakage.clean.top1)

    The files are in `RUN/evaluate/split<k>/`. Raises HarCacheError: bad options, no such run, no cache or another one
    than the run's, a test list without a clip in the cache.
    """
    given = settings(EvaluateSettings, options, run=run)
    given.check()
    with uninterrupted():
        from ..evaluation.evaluate import evaluate as stage

    return Evaluations(tuple(stage(given, listener(progress))))


@command(ScoreSettings)
def score(predictions: PathLike, trained_on: PathLike, *, progress: bool | Progress = True, **options: Any) -> "Score":
    """Score predictions of any model as `evaluate` scores a run: a CSV of `key` and `predicted`, and another of the
    clips that the model learnt from. `cache=` or `data=` says which clips there are.

        found = har_cache.score("predictions.csv", "trained.csv", cache="data/caches/sample")

    Raises HarCacheError: bad options, no such data set, a row that makes no sense, with its line.
    """
    given = settings(ScoreSettings, options, predictions=predictions, trained_on=trained_on)
    given.check()
    from ..scoring.score import score as judge

    return judge(given, listener(progress))


@command(CompareSettings)
def compare(runs: PathLike | Iterable[PathLike], **options: Any) -> "Comparison":
    """Say whether evaluated runs differ by more than chance explains, on the clips that all of them were scored on.

        print(har_cache.compare(["data/runs/a", "data/runs/b"]).to_pandas())

    The first run is the reference; one run alone is compared with its linear probes. Raises HarCacheError: bad options,
    a run that is not evaluated, nothing that all can be compared on.
    """
    given = settings(CompareSettings, options, runs=runs)
    from ..comparison.compare import compare as compare_runs

    return compare_runs(given)


@command()
def report(
    runs: PathLike | Iterable[PathLike],
    data: PathLike | None = None,
    *,
    out: PathLike | None = None,
    progress: bool | Progress = True,
) -> Path:
    """Write a page of figures that needs nothing else; gives its path: of an evaluated run `RUN/report.html`, or one
    of several runs.

        page = har_cache.report("data/runs/sample", "data/sample")
        page = har_cache.report(["data/runs/a", "data/runs/b"])

    With `data`, the data set, the page of one shows the clips that it is most wrong about; `out` is the page of
    several, by default comparison.html beside them. Raises HarCacheError where a run is not evaluated, or the page
    cannot be written.
    """
    from ..pages.comparison import write_report

    paths = [Path(runs)] if isinstance(runs, str | os.PathLike) else [Path(run) for run in runs]
    where, page = (None if path is None else Path(path) for path in (data, out))
    return write_report(paths, where, page, listener(progress))
