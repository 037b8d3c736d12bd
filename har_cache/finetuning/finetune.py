"""Stage three: a run of stage two, its cache's encoder and the raw clips -> both trained end to end, as a run again."""

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from .. import system
from ..cache.reader import FeatureCache
from ..cache.record import source_sha256
from ..data.keys import film_of
from ..devices import Say, device_versions, resolve_device
from ..encoder.architectures.packing import transform_of
from ..errors import CacheError, DataError, RunError
from ..model.backbone import TrainableEncoder, check_unfrozen, trainable
from ..model.config import FINETUNED, RunConfig, Start
from ..model.load import labels_for, load_network, open_cache
from ..model.network import CNNBidirectionalRNN
from ..model.run import Run, fold_path
from ..model.writer import begin, writing
from ..progress import Progress
from ..settings.training import FinetuneSettings, TuneSettings
from ..storage.parsing import to_json_types
from ..system import default_workers
from ..training.batches import PLACES, Sequences
from ..training.checkpoints import finish
from ..training.loop import Trainer, WarmupCosine, parameter_groups
from ..training.step import adamw
from ..training.tensorboard import check_tensorboard, curves
from ..workers.prefetch import FramePrefetcher
from .augment import augmentation_for
from .choice import Ends, choose
from .parity import check_parity
from .raw_batches import RawClips, RawEvalBatches, RawTrainBatches
from .throughput import Throughput

_AHEAD_BATCHES = 3


@dataclass(frozen=True)
class Finetuned:
    """The finished run, its throughput (None where it was finished before), and the clips that were left out since they
    do not decode, with the reason.
    """

    run: Run
    throughput: Throughput | None
    failures: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Finetuned({self.run!r}; {len(self.failures)} clips left out)"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        failures = [{"key": key, "reason": reason} for key, reason in self.failures.items()]
        return {"run": self.run.to_dict(), "throughput": to_json_types(self.throughput), "failures": failures}


def finetune(settings: FinetuneSettings, progress: Progress = Progress()) -> Finetuned:
    """Train encoder and head of a run of stage two end to end, on the clips that it was trained and validated on.

    Raises HarCacheError: bad settings; a run, cache or data set that is not there, damaged, or does not belong to the
    others; a run directory that is in use.
    """
    settings.check()
    if settings.tensorboard:
        check_tensorboard()
    device = resolve_device(settings.device, progress.say)
    inputs = _open(settings)
    check_unfrozen(inputs.network.encoder, inputs.cache.recipe.model, settings.training.unfreeze)
    training = _with_frames(settings.training, inputs.start, progress.say)
    settings = dataclasses.replace(settings, training=training)
    config = _config(settings, inputs, device)
    with writing(settings.run, progress.say):
        return _finetune(settings, inputs, config, progress)


def _finetune(settings: FinetuneSettings, inputs: "_Inputs", config: RunConfig, progress: Progress) -> Finetuned:
    device, training, clips = config.device, settings.training, inputs.start.clips
    sources = inputs.start.given_sources
    if not begin(settings.run, config, clips, settings.resume, settings.overwrite, say=progress.say, sources=sources):
        return Finetuned(Run.open(settings.run), None, {})
    system.limit_threads()
    workers, before = settings.workers or _default_workers(device), inputs.start.config.training.frames
    ahead = _AHEAD_BATCHES * training.batch_size + workers
    with inputs.raw(settings, device, max(training.frames, before), workers, ahead, progress) as raw:
        ends, throughput = _train(settings, inputs, raw, config, progress)
    most, views = len(PLACES) * sum({training.frames, before}), config.recipe.views
    with inputs.raw(settings, device, most, workers, 2 * workers, progress, raw.failures) as raw:
        network, best, choice = choose(ends, training.blend, raw, inputs.clips("val"), views, inputs.films, progress)
    finish(settings.run, dataclasses.replace(config, skipped=raw.failures, choice=choice), network, best)
    return Finetuned(Run.open(settings.run), throughput, raw.failures)


def network_trainer(network: CNNBidirectionalRNN, settings: TuneSettings, batches: int) -> Trainer:
    """As stage two's, but that the backbone learns later than the head and more slowly, with a warm-up of its own, and
    that the last epoch is kept. The best of eight, by the clips that then judge it, would pass for a gain 24 to 49
    times in 100 where there is none, the last one 16 times (simulated, with gains correlated by 0.95 to 0.5).

    `network`: its encoder a trainable one; `batches`: of an epoch.
    """
    encoder, s = network.encoder, settings
    assert isinstance(encoder, TrainableEncoder)
    head = parameter_groups(network.head, s.weight_decay)
    slow = parameter_groups(encoder, s.weight_decay)
    backbone = [{**group, "lr": s.lr * s.backbone_lr} for group in slow if group["params"]]
    optimizer = adamw([*head, *backbone], s.lr)
    steps = -(-batches // s.accumulate)
    whole = WarmupCosine(s.epochs * steps, s.warmup)

    def rate(step: int) -> float:
        return s.lr * whole(step)

    def late(step: int) -> float:
        shift = min(1.0, max(0, step - s.head_epochs * steps + 1) / whole.rising)
        return s.lr * s.backbone_lr * (whole(step) * shift)

    rates: list[Callable[[int], float]] = [*[rate] * len(head), *[late] * len(backbone)]

    def start_epoch(epoch: int) -> None:
        encoder.asleep = epoch < s.head_epochs

    return Trainer(network, optimizer, rates, s, s.accumulate, start_epoch, keep_last=True)


@dataclass(frozen=True)
class _Inputs:
    """A run of stage two, its cache and network, and the files that the cache was made from, by key."""

    start: Run
    cache: FeatureCache
    network: CNNBidirectionalRNN
    files: Mapping[str, Path]

    @property
    def films(self) -> list[str]:
        """Of each clip of the cache."""
        return [film_of(source) for source in self.cache.sources]

    def clips(self, subset: str) -> np.ndarray:
        """Indices in the cache of the clips of the run's subset, int64 (clips)."""
        place = {key: i for i, key in enumerate(self.cache.clip_keys)}
        return np.array([place[key] for key, name in self.start.clips.items() if name == subset], int)

    @contextmanager
    def raw(
        self,
        settings: FinetuneSettings,
        device: str,
        frames: int,
        workers: int,
        ahead: int,
        progress: Progress,
        failures: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[RawClips]:
        """The clips of the cache as files, of which so many frames at most are decoded, so many clips ahead."""
        # A GPU resizes frames in less time than workers, who then decode twice as many.
        as_decoded = torch.device(device).type == "cuda"
        transform, frames_of_clip = transform_of(self.cache.recipe), self.cache.recipe.frames
        with FramePrefetcher(
            frames, workers, ahead, settings.stall_s, as_decoded, frames_of_clip, transform
        ) as prefetcher:
            labels = labels_for(self.start, self.cache)
            yield RawClips(self.cache, labels, self.files, prefetcher, device, progress, failures, transform)


def _open(settings: FinetuneSettings) -> _Inputs:
    """Refuses what does not belong together; a data set by the validation clips, which are soon read."""
    start = Run.open(settings.start)
    if heads := start.config.heads:
        one = fold_path(settings.start, 0)
        raise RunError(f"{settings.start}: is the mean of {heads} heads; fine-tune one of them: --from {one}")
    if started_from := start.config.started_from:
        raise RunError(f"{settings.start}: is fine-tuned already; start from {started_from.run}")
    if split := start.config.validate_on:
        raise RunError(
            f"{settings.start}: was validated on the test list of split {split}, nothing is held out to choose an "
            "epoch by; start from a run that was trained without --validate-on"
        )
    cache = open_cache([start], settings.cache)
    network = load_network(start)
    files = cache.files(settings.data)
    if lost := start.clips.keys() - set(cache.clip_keys):
        raise CacheError(f"{cache.path}: lacks {len(lost)} clips that {start.path} was trained on ({min(lost)}, ...)")
    digests = dict(zip(cache.clip_keys, cache.source_sha256, strict=True))
    val = [key for key, path in files.items() if start.clips.get(key) == "val" and os.path.lexists(path)]
    if other := [key for key in val if source_sha256(files[key]) != digests[key]]:
        raise DataError(
            f"{settings.data}: {len(other)} of {len(val)} validation clips are other files than {cache.path} was made "
            f"from ({other[0]}, ...): choose its --data, or bring the cache up to date"
        )
    return _Inputs(start, cache, network, files)


def _with_frames(training: TuneSettings, start: Run, say: Say) -> TuneSettings:
    """With the number of frames that the head was trained with, unless another is asked for."""
    known = start.config.training.frames
    if training.frames not in (None, known):
        say(
            f"WARNING: --frames {training.frames}: the head of {start.path} was trained with {known} frames a clip; "
            "with others it does worse until it has learnt them"
        )
        return training
    return dataclasses.replace(training, frames=known)


def _config(settings: FinetuneSettings, inputs: _Inputs, device: str) -> RunConfig:
    return dataclasses.replace(
        inputs.start.config,
        stage=FINETUNED,
        cache=str(inputs.cache.path),
        data=str(settings.data),
        training=settings.training,
        device=device,
        versions=system.versions() | device_versions(device),
        started_from=Start(str(settings.start), inputs.start.model_sha256),
        model_sha256=None,
        best=None,
    )


def _train(
    settings: FinetuneSettings, inputs: _Inputs, raw: RawClips, config: RunConfig, progress: Progress
) -> tuple[Ends, Throughput | None]:
    training, train, val = settings.training, inputs.clips("train"), inputs.clips("val")
    progress.say(
        f"Split {config.split}: fine-tuning on {len(train)} clips of {len(config.classes)} classes, "
        f"validating on the centred frames of {len(val)}; {raw.prefetcher.workers} processes decode"
    )
    if len({inputs.films[i] for i in val}) == 1:
        progress.say(
            "WARNING: the validation clips are of one film, which cannot tell a gain from chance: whatever is learnt, "
            "the weights that it starts from will be kept"
        )
    network, before = inputs.network.to(raw.device), inputs.start.config.training.frames
    sequences = Sequences.from_cache(inputs.cache, raw.device)
    parity = check_parity(network, raw, sequences, val, dataclasses.replace(training, frames=before))
    progress.say(f"Before the first step: {parity}")
    torch.manual_seed(training.seed)
    how = training.unfreeze, training.train_norms, training.checkpointing
    backbone = trainable(network.encoder, config.recipe.model, *how)
    network = CNNBidirectionalRNN(backbone, network.head)
    start = copy.deepcopy(network)
    batches = RawTrainBatches(raw, train, training, augmentation_for(config.recipe))
    trainer = network_trainer(network, training, len(batches))
    held_out = RawEvalBatches(raw, val, training)
    with curves(settings.run, settings.tensorboard) as tell:
        last = trainer.fit(batches, held_out, settings.run, progress, settings.resume, tell)
    return Ends(start, network, before, training.frames, int(last["epoch"])), batches.stopwatch.throughput


def _default_workers(device: str) -> int:
    """On the CPU they share the cores with the training, which needs most of them; a GPU needs all that they give."""
    return max(1, system.cores() // 2) if device == "cpu" else default_workers()
