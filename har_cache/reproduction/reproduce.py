"""HMDB51 from the download to a table: every figure beside the range that was expected of it beforehand."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..cache.manifest import read_manifest
from ..comparison.tables import Table, markdown
from ..data.hmdb51 import CLASS_NAMES
from ..evaluation.averages import summarise
from ..evaluation.results import Evaluation, LinearProbe, Metrics
from ..progress import Progress
from ..sample_data.standin import WEIGHTS
from ..settings.evaluation import EvaluateSettings
from ..settings.tools import ReproduceSettings
from ..storage.files import make_directory, to_json, write_file
from ..storage.parsing import to_json_types
from ..system import cores
from .costs import MACHINE, duration
from .expected import FINE_TUNED, FROZEN, HEADLINE, NOT_THEIRS, SOURCES, Figure, table
from .matrix import MADE_UP, sentence
from .protocol import REPORTED_ON, Protocol, evaluated, read_protocol
from .steps import FOLDS, PROTOCOL, SEEDS, Step, steps

SCHEMA = "har-reproduction/1"
CONTENT, PAGE = "reproduction.json", "reproduction.md"


@dataclass(frozen=True)
class Reproduction:
    """What came of it. `deviation`: the standard deviation of top-1 among the seeds of a split, a share of 1."""

    schema: str
    cache: str
    fingerprint: str
    weights: str
    classes: tuple[str, ...]
    figures: tuple[Figure, ...]
    deviation: float | None
    explained: str
    skipped: tuple[str, ...]

    @property
    def expected(self) -> bool:
        """Whether the ranges are for these classes: they are those of HMDB51."""
        return self.classes == tuple(sorted(CLASS_NAMES))

    @property
    def table(self) -> Table:
        """For people."""
        figures = self.figures if self.expected else [replace(figure, expected=None) for figure in self.figures]
        apart = self.deviation and f"Seeds of a split are {100 * self.deviation:.1f} points apart (s.d.)."
        notes = [
            *([apart] if apart else []),
            *(["<: below the range, >: above it."] if self.expected else []),
            self.explained,
            *([f"{MADE_UP}: the ranges are not for them."] if self.weights == WEIGHTS else []),
            *(f"Left out: {each}" for each in self.skipped),
        ]
        count = len(self.classes)
        return table(figures, f"Top-1 in percent on the test lists; {count} classes, chance {100 / count:.2f}", notes)


def reproduce(settings: ReproduceSettings, progress: Progress = Progress()) -> Reproduction | None:
    """Do every step that is not done yet, and write CONTENT and PAGE; None where only the plan was asked for.

    First says the steps, what they cost, and what is expected. What is finished stays, whatever comes between. Raises
    HarCacheError as the steps do.
    """
    settings.check()
    planned = steps(settings)
    for line in said_before(planned):
        progress.say(line)
    if settings.plan:
        return None
    make_directory(settings.runs)
    for number, step in enumerate(planned, 1):
        _do(step, f"[{number} of {len(planned)}]", progress)
    found = _found(settings, planned, progress)
    write_file(settings.runs / CONTENT, to_json(to_json_types(found)))
    write_file(settings.runs / PAGE, f"{markdown(found.table)}\n".encode())
    return found


def said_before(planned: Sequence[Step]) -> list[str]:
    """The steps with time and disk, and the ranges, in lines."""
    to_do = [step for step in planned if not step.skipped]
    hours, size = sum(step.cost.hours or 0 for step in to_do), sum(step.cost.size for step in to_do)
    ranges = f"frozen {FROZEN}, fine-tuned {FINE_TUNED}, the headline's protocol {HEADLINE}"
    return [
        f"Steps, with time on {MACHINE}, by rates measured there (this machine has {cores()} cores), and disk:",
        *(f"  {step.command}  [{f'left out: {step.skipped}' if step.skipped else step.cost}]" for step in planned),
        f"In all about {duration(hours)} and {size / 1e9:.1f} GB. What is done already is not done again.",
        f"Expected of HMDB51 with ImageNet weights, top-1 in percent: {ranges} (chance {100 / len(CLASS_NAMES):.2f})",
        f"  by these figures of others: {'; '.join(SOURCES)}",
        f"  {NOT_THEIRS}",
    ]


def _do(step: Step, number: str, progress: Progress) -> None:
    if step.skipped:
        progress.say(f"{number} left out ({step.skipped}): {step.command}")
        return
    progress.say(f"{number} {step.command}")
    begun = time.monotonic()
    step.work(progress)
    progress.say(f"{number} done in {time.monotonic() - begun:.0f} s")


def _found(settings: ReproduceSettings, planned: Sequence[Step], progress: Progress) -> Reproduction:
    manifest, both = read_manifest(settings.cache), read_protocol(settings.runs / PROTOCOL)
    by_seed = _evaluated(settings, settings.runs / SEEDS, progress)
    seeds = summarise(by_seed)["seeds"]
    return Reproduction(
        schema=SCHEMA,
        cache=str(settings.cache),
        fingerprint=manifest.fingerprint,
        weights=manifest.recipe.weights,
        classes=manifest.classes,
        figures=tuple(_figures(settings, planned, range(1, manifest.splits.count + 1), by_seed, both, progress)),
        deviation=seeds and seeds["standard_deviation"],
        explained=sentence(both),
        skipped=tuple(_skipped(planned)),
    )


def _skipped(planned: Sequence[Step]) -> Iterator[str]:
    """Which steps were left out, in a line for each reason."""
    for reason in dict.fromkeys(step.skipped for step in planned if step.skipped):
        names = Counter(step.name for step in planned if step.skipped == reason)
        listed = ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in names.items())
        yield f"{listed}: {reason}"


def _figures(
    settings: ReproduceSettings,
    planned: Sequence[Step],
    splits: Sequence[int],
    by_seed: Sequence[Evaluation],
    both: Protocol,
    progress: Progress,
) -> Iterator[Figure]:
    frozen = f"frozen, films held out, seeds {settings.seeds}"
    yield Figure(frozen, _by_split(by_seed, splits, lambda metrics: metrics.top1), FROZEN)
    in_folds = _evaluated(settings, settings.runs / FOLDS, progress)
    yield Figure(f"frozen, {settings.folds} folds", _by_split(in_folds, splits, lambda metrics: metrics.top1), FROZEN)
    tuned = [
        evaluation
        for step in planned
        if step.tuned and not step.skipped
        for evaluation in _evaluated(settings, step.tuned, progress)
    ]
    yield Figure("fine-tuned", _by_split(tuned, splits, lambda metrics: metrics.top1), FINE_TUNED)
    yield Figure("linear probe, mean", _by_split(by_seed, splits, lambda metrics: _top1(metrics.linear_on_mean)))
    on_moments = _by_split(by_seed, splits, lambda metrics: _top1(metrics.linear_on_moments))
    yield Figure("linear probe, mean and first moment", on_moments)
    for what, accuracy, expected in (
        ("the headline's protocol", both.leaked.all_clips, HEADLINE),
        ("of it, clean clips alone", both.leaked.clean, None),
    ):
        yield Figure(what, tuple(accuracy.top1 if split == REPORTED_ON else None for split in splits), expected)


def _evaluated(settings: ReproduceSettings, run: Path, progress: Progress) -> list[Evaluation]:
    return evaluated(EvaluateSettings(run=run, device=settings.device), progress)


def _top1(probe: LinearProbe | None) -> float | None:
    return probe.top1 if probe else None


def _by_split(
    evaluations: Sequence[Evaluation], splits: Sequence[int], figure: Callable[[Metrics], float | None]
) -> tuple[float | None, ...]:
    """Of each split the mean over its models; None where there is no figure."""
    found: list[float | None] = []
    for split in splits:
        values = [value for e in evaluations if e.metrics.split == split and (value := figure(e.metrics)) is not None]
        found.append(statistics.mean(values) if values else None)
    return tuple(found)
