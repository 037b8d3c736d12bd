"""Runs: trained on a cache, tuned end to end, and used on any video."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from ..progress import Progress
from ..settings.evaluation import PredictSettings
from ..settings.training import FinetuneSettings, TrainHeadSettings
from ..system import uninterrupted
from .keywords import PathLike, command, settings
from .listener import listener

if TYPE_CHECKING:
    from ..finetuning.finetune import Finetuned
    from ..model.run import Run
    from ..prediction.predict import PredictReport


@overload
def train_head(
    cache: PathLike,
    run: PathLike,
    *,
    split: Literal["all"],
    seeds: str | Sequence[int] | None = None,
    progress: bool | Progress = True,
    **options: Any,
) -> "list[Run]": ...


@overload
def train_head(
    cache: PathLike,
    run: PathLike,
    *,
    split: int | str = 1,
    seeds: str | Sequence[int],
    progress: bool | Progress = True,
    **options: Any,
) -> "list[Run]": ...


@overload
def train_head(
    cache: PathLike, run: PathLike, *, split: int = 1, progress: bool | Progress = True, **options: Any
) -> "Run": ...


@command(TrainHeadSettings)
def train_head(
    cache: PathLike,
    run: PathLike,
    *,
    split: int | str = 1,
    seeds: str | Sequence[int] | None = None,
    progress: bool | Progress = True,
    **options: Any,
) -> "Run | list[Run]":
    """Stage two: train a bidirectional RNN on a cache, into the directory `run`.

        run = har_cache.train_head("data/caches/sample", "data/runs/sample", epochs=30, hidden=64)

    Clips of the training list are held out by source to validate on; the test list is not looked at. With `split="all"`
    or several `seeds`, as `range(3)`, there is a run for each, in a list. Raises HarCacheError: bad options, a cache
    that is damaged or cannot be trained on, a run directory that is in use.
    """
    given = settings(TrainHeadSettings, options, cache=cache, run=run, split=split, seeds=seeds)
    given.check()
    with uninterrupted():
        from ..training.train_head import train_head as stage

    runs = stage(given, listener(progress))
    return runs if split == "all" or seeds is not None else runs[0]


@command(FinetuneSettings)
def finetune(
    start: PathLike, data: PathLike, run: PathLike, *, progress: bool | Progress = True, **options: Any
) -> "Finetuned":
    """Stage three: train encoder and head end to end, on raw frames, from the run `start` of `train_head` on.

        tuned = har_cache.finetune("data/runs/sample", "data/sample", "data/runs/tuned", epochs=2)
        print(tuned.run, tuned.failures)

    Raises HarCacheError: bad options; a run, cache or data set that is not there, damaged, or of others.
    """
    given = settings(FinetuneSettings, options, start=start, data=data, run=run)
    given.check()
    with uninterrupted():
        from ..finetuning.finetune import finetune as stage

    return stage(given, listener(progress))


@command(PredictSettings)
def predict(
    run: PathLike, videos: PathLike | Iterable[PathLike], *, progress: bool | Progress = True, **options: Any
) -> "PredictReport":
    """Name the action in videos, or in folders of them. Nothing but the run is needed: no cache, no data set.

        report = har_cache.predict("data/runs/sample", ["a.mp4", "b.mp4"])
        for prediction in report.predictions:
            print(prediction.video, prediction.top(3))

    Videos that cannot be decoded are left out: `report.failures` says why. Raises HarCacheError: bad options, no such
    run, no video that decodes.
    """
    given = settings(PredictSettings, options, run=run, videos=videos)
    given.check()
    with uninterrupted():
        from ..prediction.predict import predict as classify

    return classify(given, listener(progress))
