"""Stage two: a cache -> a trained head, in a run directory."""

import dataclasses
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .. import system
from ..cache.reader import FeatureCache
from ..cache.writer import Store
from ..data.index import TRAIN
from ..errors import CacheError, HarCacheError, RunError
from ..files import sha256
from ..model import run
from ..model.config import HEAD, BestEpoch, RunConfig, read_config, write_config
from ..model.head import Head
from ..model.run import Run, begin, check_free
from ..plots import plot_curves
from ..progress import Progress
from ..settings import SPLITS, TrainHeadSettings, TrainSettings
from ..system import resolve_device
from .batches import EvalBatches, Sequences, TrainBatches
from .loop import Trainer, WarmupCosine, parameter_groups

ALL = "all"
_VAL_FOLDS = 7


def train_head(settings: TrainHeadSettings, progress: Progress = Progress()) -> list[Run]:
    """Train a head on the split, or one on each; gives the finished runs, in the order of the splits.

    Raises HarCacheError: bad settings; a cache that is unfinished, damaged or cannot be trained on; a run directory
    that is in use. What finished before stays.
    """
    settings.check()
    splits = SPLITS if settings.split == ALL else (int(settings.split),)
    paths = {split: run.split_path(settings.run, split) if settings.split == ALL else settings.run for split in splits}
    device = resolve_device(settings.device)
    _check_directories(settings, paths.values())
    cache = FeatureCache(settings.cache)
    plans = {split: _plan(settings, cache, split, device) for split in splits}
    sequences = Sequences.from_cache(cache, device)
    system.limit_threads()
    return [_train(settings, paths[split], plans[split], cache, sequences, progress) for split in splits]


@dataclass(frozen=True)
class _Plan:
    """One split's training: the config to be written, the cache's encoder, and the indices of the clips."""

    config: RunConfig
    encoder: bytes
    train: np.ndarray
    val: np.ndarray


def hold_out(labels: np.ndarray, sources: np.ndarray, seed: int) -> np.ndarray:
    """Which clips validate, bool (clips): about a seventh, all classes alike, whole sources (`<class>/<source>`).

    A film that several classes were cut from is held out of all of them: the same place and people under another
    name would make validation look better than a test does. Every class keeps a clip to train on: one of a single
    source does not validate. Raises HarCacheError where that leaves no clip to validate.
    """
    groups = np.unique([source.partition("/")[2] for source in sources], return_inverse=True)[1]
    most = max(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    folds = min(_VAL_FOLDS, most)
    masks = [mask for mask in _folds(labels, groups, folds, seed) if mask.any()] if folds > 1 else []
    if not masks:
        raise HarCacheError("every class has a single source in the training list: none can be held out to validate on")
    share = np.bincount(labels) / folds
    return min(masks, key=lambda mask: np.abs(np.bincount(labels[mask], minlength=len(share)) - share).sum())


def _folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """The clips of each fold as bool (clips), less the classes that it holds all clips of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer sources than folds
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        held = [np.isin(np.arange(len(labels)), test) for _, test in splitter.split(labels, labels, groups)]
    return [fold & np.isin(labels, labels[~fold]) for fold in held]


def _check_directories(settings: TrainHeadSettings, paths: Iterable[Path]) -> None:
    """Refuse runs that are in the way, before anything is read."""
    if settings.split == ALL and read_config(settings.run):
        raise RunError(f"{settings.run}: holds the run of one split; choose another --run directory for --split all")
    for path in paths:
        check_free(path, settings.resume, settings.overwrite)


def _plan(settings: TrainHeadSettings, cache: FeatureCache, split: int, device: str) -> _Plan:
    if cache.recipe.trained_split not in (None, split):
        raise CacheError(
            f"{cache.path}: its encoder was fine-tuned on the training list of split {cache.recipe.trained_split}, "
            f"which holds test clips of split {split}: train on it with --split {cache.recipe.trained_split}"
        )
    train, val = _subsets(cache, split, settings.training.seed)
    config = RunConfig(
        stage=HEAD,
        split=split,
        cache=str(settings.cache),
        fingerprint=cache.fingerprint,
        recipe=cache.recipe,
        classes=cache.classes,
        head=settings.head,
        training=settings.training,
        device=device,
        projection_fit=cache.recipe.projection_fit,
        versions=system.versions(),
    )
    return _Plan(config, _encoder_of(cache), train, val)


def _subsets(cache: FeatureCache, split: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the clips to train on, and of those to validate on."""
    if len(cache.classes) < 2:
        raise CacheError(f"{cache.path}: holds one class ({cache.classes[0]}); there is nothing to tell apart")
    clips = np.flatnonzero(cache.subsets[:, split - 1] == TRAIN)
    if len(np.unique(cache.labels[clips])) < 2:
        what = "clips of one class only" if len(clips) else "no clip"
        raise CacheError(f"{cache.path}: of the training list of split {split} it holds {what}; choose another --split")
    held = hold_out(cache.labels[clips], np.array(cache.sources)[clips], seed)
    return clips[~held], clips[held]


def _train(
    settings: TrainHeadSettings, path: Path, plan: _Plan, cache: FeatureCache, sequences: Sequences, progress: Progress
) -> Run:
    clips = {cache.keys[i]: "train" for i in plan.train} | {cache.keys[i]: "val" for i in plan.val}
    files = {run.ENCODER: plan.encoder}
    if begin(path, plan.config, clips, settings.resume, settings.overwrite, files):
        progress.say(
            f"Split {plan.config.split}: training on {len(plan.train)} clips of {len(cache.classes)} classes, "
            f"validating on {len(plan.val)} of other sources"
        )
        _fit(settings, path, plan, sequences, progress)
    return Run.open(path)


def _encoder_of(cache: FeatureCache) -> bytes:
    """The file of the encoder that wrote the cache: with it, the run is enough to predict from frames."""
    data = Store(cache.path).encoder_bytes()
    if sha256(data) != cache.recipe.encoder_sha256:
        raise CacheError(f"{cache.path}: encoder.safetensors is damaged; restore it, or extract with --overwrite")
    return data


def _fit(settings: TrainHeadSettings, path: Path, plan: _Plan, sequences: Sequences, progress: Progress) -> None:
    training = settings.training
    batches = TrainBatches(sequences, plan.train, training.frames, training.batch_size, training.seed)
    held_out = list(EvalBatches(sequences, plan.val, training.frames))  # the same in every epoch
    torch.manual_seed(training.seed)
    head = Head(len(plan.config.classes), settings.head, *sequences.moments(torch.from_numpy(plan.train)))
    trainer = head_trainer(head.to(sequences.device), training, len(batches))
    best = trainer.fit(batches, held_out, path, progress, settings.resume)
    digest = run.save_model(head, path)
    plot_curves(path / run.METRICS, path / run.CURVES, int(best["epoch"]))
    chosen = BestEpoch(int(best["epoch"]), best["val_loss"], best["val_accuracy"])
    write_config(path, dataclasses.replace(plan.config, model_sha256=digest, best=chosen))


def head_trainer(head: nn.Module, settings: TrainSettings, steps: int) -> Trainer:
    """AdamW without decay of biases and norms; a linear warm-up, then a cosine to zero. `steps`: of an epoch."""
    optimizer = torch.optim.AdamW(parameter_groups(head, settings.weight_decay), lr=settings.lr)
    scheduler = LambdaLR(optimizer, WarmupCosine(settings.epochs * steps, settings.warmup))
    return Trainer(head, optimizer, scheduler, settings)
