"""Stage two: a cache -> trained heads, each in a run directory."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from .. import system
from ..cache.reader import FeatureCache
from ..cache.writer import Store
from ..data.folds import hold_out
from ..data.splits import TEST, TRAIN, VALIDATE
from ..devices import resolve_device
from ..errors import CacheError, RunError, SettingError
from ..model.config import read_config
from ..model.load import check_splits
from ..model.run import Run, seed_path, split_path
from ..model.writer import check_free, writing
from ..progress import Progress
from ..settings.names import ALL
from ..settings.training import TrainHeadSettings
from ..storage.files import sha256
from .batches import Sequences
from .folds import plan_folds, train_folds
from .heads import Plan, Trained, head_config, plan_head, train_one
from .tensorboard import check_tensorboard


def train_head(settings: TrainHeadSettings, progress: Progress = Progress()) -> list[Run]:
    """Train a head on the split, or one on each, with one seed or several; gives the finished runs, split by split.

    With folds a run is the mean of as many heads. Raises HarCacheError: bad settings; a cache that is unfinished,
    damaged or cannot be trained on; a run directory that is in use. What finished before stays.
    """
    settings.check()
    if settings.tensorboard:
        check_tensorboard()
    settings = dataclasses.replace(settings, device=resolve_device(settings.device, progress.say))
    cache = FeatureCache(settings.cache)
    wanted = _wanted(settings, cache)
    with ExitStack() as stack:
        for path, _, _ in wanted:
            stack.enter_context(writing(path, progress.say))
            check_free(path, settings.resume, settings.overwrite)
            for above in _groups(path, settings.run):
                if read_config(above):
                    raise RunError(f"{above}: holds a run; choose another --run directory for several splits or seeds")
        return _train(settings, cache, wanted, progress)


def _train(
    settings: TrainHeadSettings, cache: FeatureCache, wanted: list[tuple[Path, int, int]], progress: Progress
) -> list[Run]:
    plans = [_plan(settings, path, cache, split, seed) for path, split, seed in wanted]
    encoder = _encoder_of(cache)
    given = Trained(cache, Sequences.from_cache(cache, settings.device), encoder, settings.tensorboard)
    system.limit_threads()
    ready = [plan_folds(plan, given, settings.folds) if settings.folds else (plan, []) for plan in plans]
    how = (given, settings.resume, settings.overwrite, progress)
    return [train_folds(plan, folds, *how) if folds else train_one(plan, *how) for plan, folds in ready]


def _wanted(settings: TrainHeadSettings, cache: FeatureCache) -> list[tuple[Path, int, int]]:
    """The directory, split and seed of each run. Raises HarCacheError where the cache has no such split."""
    several, seeds = settings.split == ALL, settings.seed_numbers
    splits = cache.splits if several else (int(settings.split),)
    check_splits(cache, *splits)
    if settings.validate_on:
        check_splits(cache, settings.validate_on, option="--validate-on")
    found = []
    for split in splits:
        path = split_path(settings.run, split) if several else settings.run
        found += [(seed_path(path, seed) if settings.seeds else path, split, seed) for seed in seeds]
    return found


def _groups(path: Path, top: Path) -> list[Path]:
    """The directories above a run's that hold runs, up to `top`."""
    return [] if path == top else [path.parent, *_groups(path.parent, top)]


def _plan(settings: TrainHeadSettings, path: Path, cache: FeatureCache, split: int, seed: int) -> Plan:
    if cache.recipe.trained_split not in (None, split):
        raise CacheError(
            f"{cache.path}: its encoder was fine-tuned on the training list of split {cache.recipe.trained_split}, "
            f"which holds test clips of split {split}: train on it with --split {cache.recipe.trained_split}"
        )
    set_apart = _sets_apart(settings, cache, split)
    train, val = _subsets(cache, split, settings.fold, settings.validate_on)
    config = dataclasses.replace(
        head_config(settings, cache, split, dataclasses.replace(settings.training, seed=seed)),
        fold=None if settings.validate_on or set_apart else settings.fold,
        validate_on=settings.validate_on,
        val_set_apart=(set_apart and not settings.folds) or None,
    )
    return plan_head(path, config, cache, train, val)


def _sets_apart(settings: TrainHeadSettings, cache: FeatureCache, split: int) -> bool:
    """Whether the split sets clips apart to validate on. Raises SettingError where others are asked for as well."""
    found = VALIDATE in cache.subsets[:, split - 1]
    if found and (settings.fold or settings.validate_on):
        given = f"--validate-on {settings.validate_on}" if settings.validate_on else f"--fold {settings.fold}"
        raise SettingError(
            f"{given}: split {split} of {cache.path} sets clips apart to validate on; leave the option out, or give "
            "--folds, which divides the whole training list, these clips included"
        )
    return found


def _subsets(cache: FeatureCache, split: int, fold: int, validate_on: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the clips to train on, and of those to validate on: those that the split sets apart for that, or
    else held out, or the test list of another split, of which some train too.
    """
    if len(cache.classes) < 2:
        raise CacheError(f"{cache.path}: holds one class ({cache.classes[0]}); there is nothing to tell apart")
    clips = np.flatnonzero(cache.subsets[:, split - 1] == TRAIN)
    if len(np.unique(cache.labels[clips])) < 2:
        what = "clips of one class only" if len(clips) else "no clip"
        raise CacheError(f"{cache.path}: of the training list of split {split} it holds {what}; choose another --split")
    if validate_on:
        val = np.flatnonzero(cache.subsets[:, validate_on - 1] == TEST)
        if not len(val):
            raise CacheError(f"{cache.path}: holds no clip of the test list of split {validate_on} to validate on")
        return clips, val
    if len(val := np.flatnonzero(cache.subsets[:, split - 1] == VALIDATE)):
        return clips, val
    held = hold_out(cache.labels[clips], np.array(cache.sources)[clips], fold)
    return clips[~held], clips[held]


def _encoder_of(cache: FeatureCache) -> bytes:
    """The file of the encoder that wrote the cache: with it, the run is enough to predict from frames."""
    data = Store(cache.path).encoder_bytes()
    if sha256(data) != cache.recipe.encoder_sha256:
        raise CacheError(f"{cache.path}: encoder.safetensors is damaged; restore it, or extract with --overwrite")
    return data
