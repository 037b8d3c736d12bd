"""The commands that make a run and its figures again, from what the run keeps of its settings; options that are as by
default are left out.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..cache.recipe import EMBEDDING
from ..commands import command_line
from ..errors import HarCacheError
from ..evaluation.results import Metrics
from ..model.config import RunConfig
from ..model.run import Run
from ..options import Settings
from ..sample_data.standin import WEIGHTS as MADE_UP
from ..settings.evaluation import EvaluateSettings
from ..settings.extraction import ExtractSettings
from ..settings.names import ALL, NAMED_WEIGHTS
from ..settings.tools import StandinSettings
from ..settings.training import FinetuneSettings, TrainHeadSettings, TuneSettings
from ..video.sampling import Sampling

Command = tuple[str, Settings]

_DATA, _SPLITS, _WEIGHTS = Path("DATA"), Path("SPLITS"), "WEIGHTS"  # where nobody kept which they were


def commands_of_run(run: Run, metrics: Metrics | None, data: Path | None = None) -> tuple[str, ...]:
    """Of a run, and of its evaluation on the list that `metrics` are of, if there is one."""
    config = run.config
    other = metrics.split if metrics and metrics.split != config.split else None
    evaluation = ("evaluate", EvaluateSettings(run=run.path, split=other)) if metrics else None
    return _lines(_caching(config, data), _training(run), evaluation)


def commands_of_runs(path: Path, runs: Sequence[Run], data: Path | None = None) -> tuple[str, ...]:
    """Of the runs of several splits and seeds below `path`."""
    training = _training(runs[0])
    if training and isinstance(training[1], TrainHeadSettings):
        several_splits = any(path / f"split{run.config.split}" in (run.path, run.path.parent) for run in runs)
        several_seeds = any(run.path.name == f"seed{run.config.training.seed}" for run in runs)
        seeds = sorted({run.config.training.seed for run in runs})
        changed = dataclasses.replace(
            training[1],
            run=path,
            split=ALL if several_splits else training[1].split,
            seeds=",".join(map(str, seeds)) if several_seeds else None,
            training=dataclasses.replace(training[1].training, seed=0 if several_seeds else seeds[0]),
        )
        training = ("train-head", changed)
    return _lines(_caching(runs[0].config, data), training, ("evaluate", EvaluateSettings(run=path)))


def _lines(*commands: Command | None) -> tuple[str, ...]:
    return tuple(command_line(*command) for command in commands if command)


def _caching(config: RunConfig, data: Path | None) -> Command | None:
    recipe, cache = config.recipe, Path(config.cache)
    if recipe.weights == MADE_UP:
        return "standin", StandinSettings(splits=_SPLITS, cache=cache, seed=recipe.seed)
    if recipe.origin:
        return None
    try:
        sampling = Sampling.parse(recipe.frames)
    except HarCacheError:  # of a later version
        return None
    return "extract", ExtractSettings(
        data=data or (Path(config.data) if config.data else _DATA),
        cache=cache,
        encoder=recipe.model,
        weights=recipe.weights if recipe.weights in NAMED_WEIGHTS else _WEIGHTS,
        dim=None if recipe.dim == EMBEDDING else str(recipe.dim),
        views=recipe.views,
        every=sampling.every,
        fps=sampling.fps,
        seed=recipe.seed,
    )


def _training(run: Run) -> Command | None:
    config = run.config
    if isinstance(config.training, TuneSettings) and config.started_from:
        start, data = Path(config.started_from.run), Path(config.data or _DATA)
        return "finetune", FinetuneSettings(start=start, data=data, run=run.path, training=config.training)
    if config.fold is not None and config.folds:  # one of the heads of a run
        return None
    return "train-head", TrainHeadSettings(
        cache=Path(config.cache),
        run=run.path,
        split=str(config.split),
        fold=config.fold or 0,
        folds=config.folds,
        validate_on=config.validate_on,
        training=config.training,
        head=config.head,
    )
