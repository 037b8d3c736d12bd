"""The steps of a reproduction: each is a command that can be typed as well, and does only what is not done yet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..cache.manifest import MANIFEST, Manifest, read_manifest
from ..commands import command_line
from ..comparison.compare import compare
from ..comparison.summary import tables
from ..comparison.tables import render
from ..data.hmdb51 import LIST_FOLDER
from ..data.index import read_index
from ..downloading.download import ARCHIVES, MISSING, download
from ..errors import DataError, DownloadError
from ..extraction.extract import extract
from ..finetuning.finetune import finetune
from ..model.run import seed_path, split_path
from ..pages.report import report
from ..progress import Progress
from ..sample_data.standin import WEIGHTS
from ..settings.evaluation import CompareSettings, EvaluateSettings
from ..settings.extraction import ExtractSettings
from ..settings.names import ALL
from ..settings.tools import DownloadSettings, ProtocolSettings, ReproduceSettings
from ..settings.training import FinetuneSettings, TrainHeadSettings, TuneSettings
from ..storage.files import write_file
from ..training.train_head import train_head
from .costs import Cost, Costs
from .protocol import evaluated, head_settings, protocol, protocol_splits

SEEDS, FOLDS, PROTOCOL, TUNED, COMPARED = "seeds", "folds", "protocol", "finetuned", "comparison.md"


@dataclass(frozen=True)
class Step:
    """A command, what it costs, what does the same, and why it is left out, empty where it is not. `tuned`: the
    fine-tuned run that it scores, if it does.
    """

    command: str
    cost: Cost
    work: Callable[[Progress], object]
    skipped: str = ""
    tuned: Path | None = None

    @property
    def name(self) -> str:
        """Of the command: `extract`, and the like."""
        return self.command.split()[1]


def steps(settings: ReproduceSettings) -> list[Step]:
    """All steps, in order. Raises HarCacheError where the cache or the data set is there and cannot be read, or has
    fewer than three splits.
    """
    manifest = read_manifest(settings.cache) if (settings.cache / MANIFEST).exists() else None
    if manifest:
        protocol_splits(settings.cache)
    clips = _clips(settings.data)
    costs = Costs.of(settings, manifest, clips)
    no_videos = _no_videos(settings, manifest)
    return [*_videos(settings, costs, clips, no_videos), *_heads(settings, costs), *_tuned(settings, costs, no_videos)]


def _videos(settings: ReproduceSettings, costs: Costs, clips: int | None, no_videos: str) -> Iterator[Step]:
    data = settings.data or Path("DATA")
    published = any((data / name).exists() for name in (ARCHIVES, LIST_FOLDER))
    has_them = f"{data} has {clips:,} clips" if clips and not published else ""
    fetching = DownloadSettings(out=data, mirrors=settings.mirrors)
    yield Step(
        command_line("download", fetching), costs.download(), partial(_download, fetching), no_videos or has_them
    )
    extraction = ExtractSettings(
        data=data,
        cache=settings.cache,
        weights=settings.weights,
        views=settings.views,
        device=settings.device,
        workers=settings.workers,
    )
    yield Step(command_line("extract", extraction), costs.extract(), partial(extract, extraction), no_videos)


def _heads(settings: ReproduceSettings, costs: Costs) -> Iterator[Step]:
    with_seeds = _head_settings(settings, SEEDS, seeds=settings.seeds)
    in_folds = _head_settings(settings, FOLDS, folds=settings.folds)
    seeds = len(with_seeds.seed_numbers)
    for training, heads, runs in ((with_seeds, seeds, seeds), (in_folds, settings.folds, 1)):
        yield Step(
            command_line("train-head", training), costs.heads(len(costs.splits) * heads), partial(train_head, training)
        )
        yield _evaluation(settings, training.run, costs.scored(len(costs.splits) * runs))
    both = ProtocolSettings(
        cache=settings.cache,
        run=settings.runs / PROTOCOL,
        training=settings.training,
        head=settings.head,
        device=settings.device,
    )
    lists = costs.heads(len(costs.splits) + 1), costs.scored((len(costs.splits) + 1) * len(costs.splits))
    cost = Cost(sum(each.hours or 0 for each in lists), sum(each.size for each in lists))
    yield Step(command_line("protocol", both), cost, partial(protocol, both))


def _tuned(settings: ReproduceSettings, costs: Costs, no_videos: str) -> Iterator[Step]:
    skipped = no_videos or ("" if settings.finetune else "--no-finetune")
    first = _head_settings(settings, SEEDS, seeds=settings.seeds).seed_numbers[0]
    training = TuneSettings(
        epochs=settings.tune_epochs, unfreeze=settings.unfreeze, backbone_lr=settings.backbone_lr, seed=first
    )
    for split in costs.splits:
        run = split_path(settings.runs / TUNED, split)
        tuning = FinetuneSettings(
            start=seed_path(split_path(settings.runs / SEEDS, split), first),
            data=settings.data or Path("DATA"),
            run=run,
            training=training,
            device=settings.device,
            workers=settings.workers,
            resume=True,
        )
        yield Step(command_line("finetune", tuning), costs.tuned(training), partial(finetune, tuning), skipped)
        yield replace(_evaluation(settings, run, costs.tuned_scored()), skipped=skipped, tuned=run)
    runs = tuple(settings.runs / name for name in (SEEDS, FOLDS, *([] if skipped else [TUNED])))
    comparison = CompareSettings(runs=runs, format="markdown")
    command = f"{command_line('compare', comparison)} > {settings.runs / COMPARED}"
    yield Step(command, Cost(0, 0), partial(_compare, comparison, settings.runs / COMPARED))
    data = None if no_videos else settings.data
    for run in runs:
        command = f"har-cache report {run}" + (f" --data {data}" if data else "")
        yield Step(command, Cost(0, 0), partial(_report, run, data))


def _head_settings(
    settings: ReproduceSettings, name: str, seeds: str | None = None, folds: int | None = None
) -> TrainHeadSettings:
    return head_settings(settings, settings.runs / name, split=ALL, seeds=seeds, folds=folds, resume=True)


def _evaluation(settings: ReproduceSettings, run: Path, cost: Cost) -> Step:
    judging = EvaluateSettings(run=run, device=settings.device)
    return Step(command_line("evaluate", judging), cost, partial(evaluated, judging))


def _no_videos(settings: ReproduceSettings, manifest: Manifest | None) -> str:
    """Why no step can use videos; empty where they can."""
    if manifest and manifest.recipe.weights == WEIGHTS:
        return f"{settings.cache} is made up, there are no videos of it"
    return "" if settings.data else "no --data"


def _clips(data: Path | None) -> int | None:
    """How many clips the folder has; None where it has none yet."""
    try:
        return len(read_index(data).clips) if data and data.is_dir() else None
    except DataError:
        return None


def _download(settings: DownloadSettings, progress: Progress) -> None:
    found = download(settings, progress)
    if found.missing:
        raise DownloadError(
            f"{settings.out}: {len(found.missing)} clips are missing (named in {settings.out / MISSING}): give another "
            "source with --from"
        )


def _compare(settings: CompareSettings, out: Path, progress: Progress) -> None:
    write_file(out, (render(tables(compare(settings)), settings.format) + "\n").encode())


def _report(run: Path, data: Path | None, progress: Progress) -> None:
    report(run, data, progress)
