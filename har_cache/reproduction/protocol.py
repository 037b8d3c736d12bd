"""The protocol that headlines on HMDB51 come from, beside the honest one: the same model, trained both ways, and tested
on all test lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.manifest import read_manifest
from ..errors import CacheError, FileError, RunError
from ..evaluation.evaluate import evaluate
from ..evaluation.results import METRICS, Accuracy, Evaluation, Leakage, Metrics, read_evaluation
from ..model.run import EVALUATIONS, Run, find_runs
from ..progress import Progress
from ..settings.evaluation import EvaluateSettings
from ..settings.names import ALL
from ..settings.tools import ProtocolSettings, ReproduceSettings
from ..settings.training import TrainHeadSettings
from ..storage.files import make_directory, read_sealed_json, seal, write_file
from ..storage.parsing import parse, to_json_types
from ..training.train_head import train_head

SCHEMA, SCHEMA_1 = "har-protocol/2", "har-protocol/1"  # the first one had no seal
CONTENT = "protocol.json"
HEADLINE = "headline"
# Trained on the list of split 1, the epoch picked on the test list of split 2, reported on that of split 3.
TRAINED_ON, VALIDATED_ON, REPORTED_ON = 1, 2, 3


@dataclass(frozen=True)
class Cell:
    """One model on one test list: all of its clips, and those that it knew, or whose source, or neither. `seen`,
    `sibling` and `clean` are together all; `other_class` are some of the clean ones.
    """

    tested_on: int
    all_clips: Accuracy
    seen: Accuracy
    sibling: Accuracy
    clean: Accuracy
    other_class: Accuracy | None


@dataclass(frozen=True)
class Row:
    """One model on the test list of each split. `validated_on`: None where clips were held out."""

    run: str
    trained_on: int
    validated_on: int | None
    train_clips: int
    val_clips: int
    cells: tuple[Cell, ...]

    def on(self, split: int) -> Cell:
        """The model on the test list of this split."""
        return next(cell for cell in self.cells if cell.tested_on == split)


@dataclass(frozen=True)
class Protocol:
    """Both protocols on one cache. `honest`: a row for each split that was trained on; `headline`: the other one."""

    schema: str
    cache: str
    fingerprint: str
    weights: str
    classes: int
    honest: tuple[Row, ...]
    headline: Row

    @property
    def leaked(self) -> Cell:
        """What the headline reports."""
        return self.headline.on(REPORTED_ON)

    @property
    def honest_top1(self) -> float:
        """Mean accuracy of the honest models, each on the test list of its own split."""
        own = [row.on(row.trained_on).all_clips.top1 or 0.0 for row in self.honest]
        return sum(own) / len(own)


def protocol(settings: ProtocolSettings, progress: Progress = Progress()) -> Protocol:
    """Train and test both ways, as far as that is not done yet, and write CONTENT.

    The honest models are in `run`/split1, split2, ..., the other one in `run`/HEADLINE. Raises HarCacheError as
    `train_head` and `evaluate` do, and for a cache of fewer than three splits.
    """
    settings.check()
    splits = protocol_splits(settings.cache)
    headline = settings.run / HEADLINE
    how = {"resume": not settings.overwrite, "overwrite": settings.overwrite}
    honest = train_head(head_settings(settings, settings.run, split=ALL, **how), progress)
    leaking = train_head(
        head_settings(settings, headline, split=str(TRAINED_ON), validate_on=VALIDATED_ON, **how), progress
    )
    rows = _rows(settings, settings.run, splits, honest, progress)
    rows += _rows(settings, headline, splits, leaking, progress)
    config = honest[0].config
    found = Protocol(
        schema=SCHEMA,
        cache=str(settings.cache),
        fingerprint=config.fingerprint,
        weights=config.recipe.weights,
        classes=len(config.classes),
        honest=tuple(rows[:-1]),
        headline=rows[-1],
    )
    make_directory(settings.run)
    write_file(settings.run / CONTENT, seal(to_json_types(found), in_order=True))
    return found


def protocol_splits(cache: Path) -> tuple[int, ...]:
    """The splits of a cache. Raises CacheError where it has none to train on, validate on and report on."""
    count = read_manifest(cache).splits.count
    if count < REPORTED_ON:
        raise CacheError(
            f"{cache}: has {count} of the {REPORTED_ON} splits that the protocol takes: trained on split {TRAINED_ON}, "
            f"validated on the test list of split {VALIDATED_ON}, reported on that of split {REPORTED_ON}"
        )
    return tuple(range(1, count + 1))


def read_protocol(run: Path) -> Protocol:
    """What is written there. Raises RunError where that cannot be read."""
    path = run / CONTENT
    try:
        return parse(Protocol, read_sealed_json(path, SCHEMA_1), path, error=RunError)
    except FileError as error:
        raise RunError(f"{error}; run `har-cache protocol` again") from error


def evaluated(settings: EvaluateSettings, progress: Progress = Progress()) -> list[Evaluation]:
    """As `evaluate`, but that evaluations which the runs hold already are read."""
    runs = [Run.open(path) for path in find_runs(settings.run)]
    found = [_standing(run, settings.split or run.config.split) for run in runs]
    return [each for each in found if each] if all(found) else evaluate(settings, progress)


def head_settings(settings: ProtocolSettings | ReproduceSettings, run: Path, **more: Any) -> TrainHeadSettings:
    """The training of heads in `run` on the same cache, in the same way; `more`: what else is to be set."""
    return TrainHeadSettings(
        cache=settings.cache,
        run=run,
        training=settings.training,
        head=settings.head,
        device=settings.device,
        **more,
    )


def _rows(
    settings: ProtocolSettings, path: Path, splits: Sequence[int], runs: Sequence[Run], progress: Progress
) -> list[Row]:
    """A row for each of the runs, which are those below `path`."""
    lists = [
        evaluated(EvaluateSettings(run=path, split=k, cache=settings.cache, device=settings.device), progress)
        for k in splits
    ]
    by_run = list(zip(*lists, strict=True))
    return [_row(run, [each.metrics for each in found]) for run, found in zip(runs, by_run, strict=True)]


def _row(run: Run, on_lists: Sequence[Metrics]) -> Row:
    first = on_lists[0]
    cells = tuple(Cell(m.split, Accuracy(m.clips, m.top1, m.interval, 1.0), *_groups(m.leakage)) for m in on_lists)
    return Row(str(run.path), run.config.split, run.config.validate_on, first.train_clips, first.val_clips, cells)


def _groups(leakage: Leakage) -> tuple[Accuracy, Accuracy, Accuracy, Accuracy | None]:
    return leakage.seen, leakage.sibling, leakage.clean, leakage.other_class


def _standing(run: Run, split: int) -> Evaluation | None:
    """The evaluation of the run as it is now; None where there is none, or one of an earlier version."""
    folder = run.path / EVALUATIONS / f"split{split}"
    if not (folder / METRICS).exists():
        return None
    try:
        found = read_evaluation(folder)
    except RunError:
        return None
    now = (run.model_sha256, run.config.fingerprint)
    metrics = found.metrics
    same = (metrics.model_sha256, metrics.fingerprint) == now and metrics.films is not None
    return found if same and metrics.leakage.other_class is not None else None
