"""What the runs that are compared have right, from their evaluations, and the clips that all were scored on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.keys import film_of, sources_of
from ..data.leakage import CLEAN
from ..errors import FileError, HarCacheError, RunError
from ..evaluation.results import METRICS, Evaluation, read_evaluation
from ..evaluation.tables import LINEAR_HEADER, read_linear
from ..model.run import EVALUATIONS, Run, find_runs
from ..training.folds import read_out_of_fold
from .paired import ClipList

PROBES = LINEAR_HEADER[1:]

Answers = Mapping[int, Mapping[str, float]]  # by split, whose test list it is, and key: the share of models right


@dataclass(frozen=True)
class Competitor:
    """A run, or those of several splits. `right`: on which clips; `films`: of these clips, by key; `known`: keys of
    clips that a model knew, or whose source; `linear`: what its linear probes have right, empty where their predictions
    were not kept.
    """

    name: str
    path: Path
    classes: Collection[str]
    splits_from: Collection[str]
    right: Answers
    films: Mapping[str, str]
    known: frozenset[str]
    linear: Mapping[str, Answers]

    def on(self, lists: Sequence[ClipList], probe: str = "") -> list[np.ndarray]:
        """Of each list which clips are right, float (clips); by a linear probe of the run, where one is named."""
        answers = self.linear[probe] if probe else self.right
        return [np.array([answers[clips.split][key] for key in clips.keys]) for clips in lists]


def read_competitor(path: Path, name: str, split: int | None = None) -> Competitor:
    """The run at `path`, scored on the test list of `split`, or else on that of the split it was trained on. What
    several of its runs make of one list counts as their mean.

    Raises HarCacheError where there is no run, or one that has not been evaluated since it was trained.
    """
    runs = [Run.open(each) for each in find_runs(path)]
    evaluations = [_evaluation(run, path, split) for run in runs]
    all_linear = [_linear(evaluation, path, split) for evaluation in evaluations]
    by_list: dict[int, list[Mapping[str, float]]] = {}
    of_probes: dict[str, dict[int, list[Mapping[str, float]]]] = {}
    for evaluation, linear in zip(evaluations, all_linear, strict=True):
        number = evaluation.metrics.split
        by_list.setdefault(number, []).append({p.key: float(p.correct) for p in evaluation.predictions})
        for probe, right in linear.items() if all(all_linear) else ():
            of_probes.setdefault(probe, {}).setdefault(number, []).append(right)
    return Competitor(
        name=name,
        path=path,
        classes=frozenset(runs[0].config.classes),
        splits_from=frozenset(evaluation.metrics.splits_from for evaluation in evaluations),
        right=_means(by_list),
        films={p.key: p.film for evaluation in evaluations for p in evaluation.predictions},
        known=frozenset(p.key for evaluation in evaluations for p in evaluation.predictions if p.subset != CLEAN),
        linear={probe: _means(lists) for probe, lists in of_probes.items()},
    )


def read_folds(path: Path, name: str) -> Competitor:
    """As `read_competitor`, by what heads of `--folds` say of the training list, each of films that it has not seen.

    Raises HarCacheError where there is no run, or one without folds.
    """
    runs = [Run.open(each) for each in find_runs(path)]
    by_list: dict[int, list[Mapping[str, float]]] = {}
    films: dict[str, str] = {}
    for run in runs:
        right = {key: float(correct) for key, correct in read_out_of_fold(run).items()}
        films |= {key: film_of(source) for key, source in sources_of(right, run.given_sources).items()}
        by_list.setdefault(run.config.split, []).append(right)
    return Competitor(
        name=name,
        path=path,
        classes=frozenset(runs[0].config.classes),
        splits_from=frozenset(),
        right=_means(by_list),
        films=films,
        known=frozenset(),
        linear={},
    )


def common_lists(competitors: Sequence[Competitor]) -> list[ClipList]:
    """The clips of each test list that all competitors were scored on. Raises HarCacheError where that is nothing that
    they can be compared on.
    """
    first = competitors[0]
    for other in competitors[1:]:
        what = f"cannot compare {other.path} with {first.path}:"
        if other.classes != first.classes:
            raise HarCacheError(f"{what} they know other classes; choose runs of the same data set")
        if other.splits_from != first.splits_from:
            raise HarCacheError(f"{what} one was tested on lists of the data set, the other on splits drawn by source")
        if other.right.keys() != first.right.keys():
            tested = " against ".join(", ".join(map(str, sorted(each.right))) for each in (other, first))
            raise HarCacheError(f"{what} tested on other lists (split {tested}); choose one with --split")
    lists = [_common([each.right[split] for each in competitors], first, split) for split in sorted(first.right)]
    for other in competitors[1:]:
        for key in (key for clips in lists for key in clips.keys):
            if other.films[key] != first.films[key]:
                raise HarCacheError(
                    f"cannot compare {other.path} with {first.path}: {key} is of {other.films[key]} in the one, of "
                    f"{first.films[key]} in the other; evaluate both again, on the same cache"
                )
    return lists


def clean_lists(lists: Sequence[ClipList], competitors: Sequence[Competitor]) -> list[ClipList]:
    """The clips of these lists that no competitor knew before, nor their sources; lists without any are not there."""
    known = frozenset().union(*(each.known for each in competitors))
    films = competitors[0].films
    kept = [[key for key in clips.keys if key not in known] for clips in lists]
    return [_chosen(clips, keys, films) for clips, keys in zip(lists, kept, strict=True) if keys]


def _common(answers: Sequence[Mapping[str, float]], first: Competitor, split: int) -> ClipList:
    keys = [key for key in answers[0] if all(key in other for other in answers)]
    if not keys:
        raise HarCacheError(f"the runs share no clip of the test list of split {split}: choose runs of the same clips")
    return _chosen(ClipList(split, tuple(frozenset().union(*answers)), ()), keys, first.films)


def _chosen(clips: ClipList, keys: Sequence[str], films: Mapping[str, str]) -> ClipList:
    return ClipList(
        clips.split, tuple(keys), tuple(films[key] for key in keys), clips.left_out + len(clips.keys) - len(keys)
    )


def _evaluation(run: Run, path: Path, split: int | None) -> Evaluation:
    number = split or run.config.split
    folder = run.path / EVALUATIONS / f"split{number}"
    command = _command(path, split)
    if not (folder / METRICS).exists():
        raise RunError(f"{run.path} has not been evaluated on the test list of split {number}: run {command} first")
    found = read_evaluation(folder)
    if found.metrics.model_sha256 != run.model_sha256:
        raise RunError(f"{run.path} has been trained again since it was evaluated: run {command} first")
    return found


def _linear(evaluation: Evaluation, path: Path, split: int | None) -> dict[str, dict[str, float]]:
    """By probe and key whether it is right; empty where predictions were not kept, or there is no probe."""
    try:
        rows = read_linear(evaluation.folder)
    except FileError as error:
        raise RunError(f"{error}; run {_command(path, split)} again") from error
    if rows is None or rows.keys() != {p.key for p in evaluation.predictions}:
        return {}
    found = {
        probe: {p.key: float(rows[p.key][probe] == p.true) for p in evaluation.predictions}
        for probe in PROBES
        if all(row[probe] for row in rows.values())
    }
    return found if len(found) == len(PROBES) else {}


def _command(path: Path, split: int | None) -> str:
    return f"`har-cache evaluate {path}{f' --split {split}' if split else ''}`"


def _means(lists: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[int, dict[str, float]]:
    """Of each list, the mean over models of what they have right, on the clips that all were scored on."""
    return {
        split: {
            key: sum(model[key] for model in models) / len(models)
            for key in models[0]
            if all(key in model for model in models)
        }
        for split, models in lists.items()
    }
