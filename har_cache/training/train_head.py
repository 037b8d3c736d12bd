"""Stage two: a cache -> a trained head, in a run directory."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import system
from ..cache.reader import FeatureCache
from ..cache.writer import Store
from ..data.keys import film_of
from ..data.leakage import in_other_class
from ..data.splits import TEST, TRAIN
from ..devices import device_versions, resolve_device
from ..errors import CacheError, HarCacheError, RunError
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

_VAL_FOLDS = 7
_TRAINS = -1  # the part of a film that is never held out


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


def hold_out(labels: np.ndarray, sources: np.ndarray, fold: int = 0) -> np.ndarray:
    """Which clips validate, bool (clips): about a seventh of each class, whole films; `sources`: `<class>/<film>`.

    `fold`, from 0 on, chooses among parts that have no clip in common, the evenest first. A film that several classes
    were cut from is held out of all of them. Test lists do not go so far: in those of HMDB51 30% of the clips are of a
    film that trains under another class, in validation none are, so that the two are not quite alike. A class loses a
    third of its clips or more only where all of its films are as large, and never all: larger films always train.
    Raises HarCacheError where there is no such part.
    """
    films, of_clip = np.unique([film_of(source) for source in sources], return_inverse=True)
    clips = np.zeros((len(films), labels.max() + 1), int)
    np.add.at(clips, (of_clip, labels), 1)
    parts, uneven = _parts(films.tolist(), clips)
    found = sorted(set(parts) - {_TRAINS}, key=lambda part: tuple(uneven[part]))
    if not found:
        raise HarCacheError("each source of the training list is all that a class has: none can validate")
    if fold >= len(found):
        raise HarCacheError(f"--fold {fold}: of this training list expected 0 to {len(found) - 1}")
    return parts[of_clip] == found[fold]


def _parts(films: list[str], clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part, int (films), that each film validates in, or _TRAINS; `clips`: of each film and class. And how uneven
    each part is, (parts, 2): what it has too much or too little of a class, at most, as a share of the class; too much.

    One film after the other, the largest first, goes where it does most for the squares of these shares.
    """
    whole = np.maximum(clips.sum(0), 1)
    allowed = _most_held_out(clips, whole)
    free = np.flatnonzero((clips <= allowed).all(1))
    count = min(_VAL_FOLDS, int(np.count_nonzero(clips, axis=0).max()))
    even = clips.sum(0) / count
    parts, taken = np.full(len(films), _TRAINS), np.zeros((count, len(whole)))
    # Hashes decide between films of a size, and rounding says which are: the same on every machine.
    hashes = [hashlib.sha256(film.encode()).digest() for film in films]
    sizes = np.square(clips / whole).sum(1).round(9)
    for film in sorted(free, key=lambda film: (-sizes[film], hashes[film])):
        fuller = taken + clips[film]
        cost = (np.square((fuller - even) / whole) - np.square((taken - even) / whole)).sum(1).round(9)
        cost[(fuller > allowed).any(1)] = np.inf
        if np.isfinite(cost).any():
            parts[film] = cost.argmin()
            taken[parts[film]] = fuller[parts[film]]
    share = ((taken - even) / whole).round(9)
    return parts, np.stack([np.abs(share).max(1), share.max(1)], 1)


def _most_held_out(clips: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """How many clips of each class a part may hold: less than a third, or the smallest film where that is more."""
    possible = clips[((clips < whole) | (clips == 0)).all(1)]  # films that are not all of a class
    smallest = np.where(possible > 0, possible, whole).min(0, initial=whole.max())
    allowed = np.where(smallest < whole, np.maximum(smallest, (whole - 1) // 3), 0)
    # Films that are small in one class and large in another may leave none.
    return allowed if (clips <= allowed).all(1).any() else whole - 1


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
