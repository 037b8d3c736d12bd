"""One head, trained: on which clips, as which run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import system
from ..cache.reader import FeatureCache
from ..data.leakage import in_other_class
from ..data.splits import TEST
from ..devices import device_versions
from ..model.config import HEAD, BestEpoch, RunConfig
from ..model.head import Head
from ..model.run import TRAINS, VALIDATES, Run
from ..model.writer import begin
from ..progress import Progress
from ..settings.training import TrainHeadSettings, TrainSettings
from .batches import PLACES, Sequences, TrainBatches
from .checkpoints import finish
from .loop import Trainer, WarmupCosine, parameter_groups
from .step import adamw, record_cuda_graph
from .tensorboard import curves


@dataclass(frozen=True)
class Trained:
    """What runs are trained from: the cache, its embeddings on a device, the file of its encoder; whether TensorBoard
    is to show how.
    """

    cache: FeatureCache
    sequences: Sequences
    encoder: bytes
    tensorboard: bool = False


@dataclass(frozen=True)
class Plan:
    """A head's training: the directory, the config to be written, the subset and the source of each clip by key, and
    the indices of the clips to train on and of those to validate on. `crossing`: of how many test clips, `tested`, the
    film trains under another class; `siblings`: how many clips to validate on share a source with one to train on.
    """

    path: Path
    config: RunConfig
    clips: dict[str, str]
    sources: dict[str, str]
    train: np.ndarray
    val: np.ndarray
    tested: int
    crossing: int
    siblings: int


def plan_head(path: Path, config: RunConfig, cache: FeatureCache, train: np.ndarray, val: np.ndarray) -> Plan:
    """The training of a head in `path` on the clips of these indices, int64 each."""
    clips = {cache.clip_keys[i]: VALIDATES for i in val} | {cache.clip_keys[i]: TRAINS for i in train}
    sources = {cache.clip_keys[i]: cache.sources[i] for i in (*val, *train)}
    tested = {cache.clip_keys[i]: cache.sources[i] for i in np.flatnonzero(cache.subsets[:, config.split - 1] == TEST)}
    crossing = sum(in_other_class(sources, tested))
    trained = {cache.sources[i] for i in train}
    siblings = sum(cache.sources[i] in trained for i in val)
    return Plan(path, config, clips, sources, train, val, len(tested), crossing, siblings)


def head_config(settings: TrainHeadSettings, cache: FeatureCache, split: int, training: TrainSettings) -> RunConfig:
    """The config of a run that trains with these settings."""
    return RunConfig(
        stage=HEAD,
        split=split,
        cache=str(settings.cache),
        fingerprint=cache.fingerprint,
        recipe=cache.recipe,
        classes=cache.classes,
        head=settings.head,
        training=training,
        device=settings.device,
        projection_fit=cache.manifest.projection_fit,
        versions=system.versions() | device_versions(settings.device),
    )


def train_one(plan: Plan, given: Trained, resume: bool, overwrite: bool, progress: Progress) -> Run:
    """Train the head, or go on, and give the finished run. Raises HarCacheError as `begin` and `Trainer.fit` do."""
    path, config, training, sequences = plan.path, plan.config, plan.config.training, given.sequences
    if not begin(path, config, plan.clips, resume, overwrite, given.encoder, progress.say, plan.sources):
        return Run.open(path)
    _announce(plan, len(PLACES) * sequences.views, progress)
    batches = TrainBatches(sequences, plan.train, training.frames, training.batch_size, training.seed)
    held_out = list(sequences.test_batches(plan.val, training.frames))  # the same in every epoch
    torch.manual_seed(training.seed)
    head = Head(len(config.classes), config.head, *sequences.moments(torch.from_numpy(plan.train)))
    trainer = head_trainer(head.to(sequences.device), training, len(batches))
    with curves(path, given.tensorboard) as tell:
        best = trainer.fit(batches, held_out, path, progress, resume, tell)
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


def _announce(plan: Plan, ways: int, progress: Progress) -> None:
    config = plan.config
    source = f"of the test list of split {config.validate_on}" if config.validate_on else "of other sources"
    source = "that the data set sets apart for it" if config.val_set_apart else source
    progress.say(
        f"Split {config.split}{_which(config)}: training on {len(plan.train)} clips of {len(config.classes)} classes, "
        f"validating on {len(plan.val)} {source}, in {ways} ways each as in a test"
    )
    if config.validate_on:
        both = len(np.intersect1d(plan.train, plan.val))
        progress.say(
            f"WARNING: nothing is held out, and {both:,} of the {len(plan.val):,} clips to validate on are trained on: "
            "neither validation accuracy nor best epoch can be trusted"
        )
    elif config.val_set_apart and plan.siblings:
        progress.say(
            f"WARNING: {plan.siblings:,} of the {len(plan.val):,} clips to validate on are of sources that are trained "
            "on: validation accuracy is too high, and the best epoch may be a late one"
        )
    elif plan.crossing and (config.folds is None or config.fold == 0):
        progress.say(
            f"{plan.crossing:,} of {plan.tested:,} test clips are of films that the training list has under another "
            "class, none of the validation clips: expect other figures of the two"
        )


def _which(config: RunConfig) -> str:
    """Which of several heads, in words."""
    return f", seed {config.training.seed}" + (f", fold {config.fold} of {config.folds}" if config.folds else "")
