"""Stage two: a cache -> a trained head, in a run directory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import system
from ..cache.reader import FeatureCache
from ..cache.writer import Store
from ..data.folds import hold_out
from ..data.leakage import in_other_class
from ..data.splits import TEST, TRAIN
from ..devices import device_versions, resolve_device
from ..errors import CacheError, RunError
from ..files import sha256
from ..model import run
from ..model.config import HEAD, BestEpoch, RunConfig, read_config
from ..model.head import Head
from ..model.run import Run, begin, check_free
from ..progress import Progress
from ..settings import ALL, SPLITS, TrainHeadSettings, TrainSettings
from .batches import PLACES, Sequences, TrainBatches
from .checkpoints import finish
from .loop import Trainer, WarmupCosine, parameter_groups
from .step import adamw, record_cuda_graph


def train_head(settings: TrainHeadSettings, progress: Progress = Progress()) -> list[Run]:
    """Train a head on the split, or one on each; gives the finished runs, in the order of the splits.

    Raises HarCacheError: bad settings; a cache that is unfinished, damaged or cannot be trained on; a run directory
    that is in use. What finished before stays.
    """
    settings.check()
    everything = settings.split == ALL
    splits = SPLITS if everything else (int(settings.split),)
    paths = [run.split_path(settings.run, split) if everything else settings.run for split in splits]
    device = resolve_device(settings.device, progress.say)
    if everything and read_config(settings.run):
        raise RunError(f"{settings.run}: holds the run of one split; choose another --run directory for --split all")
    for path in paths:
        check_free(path, settings.resume, settings.overwrite)
    cache = FeatureCache(settings.cache)
    plans = [_plan(settings, path, cache, split, device) for path, split in zip(paths, splits, strict=True)]
    encoder = _encoder_of(cache)
    sequences = Sequences.from_cache(cache, device)
    system.limit_threads()
    return [_train(settings, plan, encoder, sequences, progress) for plan in plans]


@dataclass(frozen=True)
class _Plan:
    """One split's training: its directory, the config to be written, the subset of each clip by key, and the indices of
    the clips of both subsets. `crossing`: of how many test clips, `tested`, the film trains under another class.
    """

    path: Path
    config: RunConfig
    clips: dict[str, str]
    train: np.ndarray
    val: np.ndarray
    tested: int
    crossing: int


def _plan(settings: TrainHeadSettings, path: Path, cache: FeatureCache, split: int, device: str) -> _Plan:
    if cache.recipe.trained_split not in (None, split):
        raise CacheError(
            f"{cache.path}: its encoder was fine-tuned on the training list of split {cache.recipe.trained_split}, "
            f"which holds test clips of split {split}: train on it with --split {cache.recipe.trained_split}"
        )
    train, val = _subsets(cache, split, settings.fold)
    config = RunConfig(
        stage=HEAD,
        split=split,
        cache=str(settings.cache),
        fingerprint=cache.fingerprint,
        recipe=cache.recipe,
        classes=cache.classes,
        head=settings.head,
        training=settings.training,
        fold=settings.fold,
        device=device,
        projection_fit=cache.recipe.projection_fit,
        versions=system.versions() | device_versions(device),
    )
    clips = {cache.keys[i]: "train" for i in train} | {cache.keys[i]: "val" for i in val}
    test = np.flatnonzero(cache.subsets[:, split - 1] == TEST)
    crossing = sum(in_other_class(clips, [cache.keys[i] for i in test]))
    return _Plan(path, config, clips, train, val, len(test), crossing)


def _subsets(cache: FeatureCache, split: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the clips to train on, and of those to validate on."""
    if len(cache.classes) < 2:
        raise CacheError(f"{cache.path}: holds one class ({cache.classes[0]}); there is nothing to tell apart")
    clips = np.flatnonzero(cache.subsets[:, split - 1] == TRAIN)
    if len(np.unique(cache.labels[clips])) < 2:
        what = "clips of one class only" if len(clips) else "no clip"
        raise CacheError(f"{cache.path}: of the training list of split {split} it holds {what}; choose another --split")
    held = hold_out(cache.labels[clips], np.array(cache.sources)[clips], fold)
    return clips[~held], clips[held]


def _encoder_of(cache: FeatureCache) -> bytes:
    """The file of the encoder that wrote the cache: with it, the run is enough to predict from frames."""
    data = Store(cache.path).encoder_bytes()
    if sha256(data) != cache.recipe.encoder_sha256:
        raise CacheError(f"{cache.path}: encoder.safetensors is damaged; restore it, or extract with --overwrite")
    return data


def _train(settings: TrainHeadSettings, plan: _Plan, encoder: bytes, sequences: Sequences, progress: Progress) -> Run:
    path, config, training = plan.path, plan.config, settings.training
    if not begin(path, config, plan.clips, settings.resume, settings.overwrite, encoder, progress.say):
        return Run.open(path)
    progress.say(
        f"Split {config.split}: training on {len(plan.train)} clips of {len(config.classes)} classes, "
        f"validating on {len(plan.val)} of other sources, in {len(PLACES) * sequences.views} ways each as in a test"
    )
    if plan.crossing:
        progress.say(
            f"{plan.crossing:,} of {plan.tested:,} test clips are of films that the training list has under another "
            "class, none of the validation clips: expect other figures of the two"
        )
    batches = TrainBatches(sequences, plan.train, training.frames, training.batch_size, training.seed)
    held_out = list(sequences.test_batches(plan.val, training.frames))  # the same in every epoch
    torch.manual_seed(training.seed)
    head = Head(len(config.classes), settings.head, *sequences.moments(torch.from_numpy(plan.train)))
    trainer = head_trainer(head.to(sequences.device), training, len(batches))
    best = trainer.fit(batches, held_out, path, progress, settings.resume)
    finish(path, config, head, BestEpoch(int(best["epoch"]), best["val_loss"], best["val_accuracy"]))
    return Run.open(path)


def head_trainer(head: nn.Module, settings: TrainSettings, steps: int) -> Trainer:
    """AdamW without decay of biases and norms; a linear warm-up, then a cosine to zero. On CUDA a step is one graph.
    `steps`: of an epoch.
    """
    optimizer = adamw(parameter_groups(head, settings.weight_decay), settings.lr)
    curve = WarmupCosine(settings.epochs * steps, settings.warmup)

    def rate(step: int) -> float:
        return settings.lr * curve(step)

    device = next(head.parameters()).device
    record = record_cuda_graph(device) if device.type == "cuda" else None
    return Trainer(head, optimizer, [rate] * len(optimizer.param_groups), settings, record=record)
