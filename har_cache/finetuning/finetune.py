"""Stage three: a run of stage two, its cache's encoder and the raw clips -> both trained end to end, as a run again."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .. import system
from ..cache.reader import FeatureCache
from ..cache.record import source_sha256
from ..data.index import ClipIndex, read_index
from ..devices import Say, device_versions, resolve_device
from ..encoder.fp32 import true_fp32
from ..errors import CacheError, DataError, RunError
from ..model import run
from ..model.config import FINETUNED, BestEpoch, RunConfig, Start
from ..model.load import labels_for, load_network, open_cache
from ..model.network import Backbone, CNNBidirectionalRNN
from ..model.run import Run, begin, fold_path
from ..progress import Progress
from ..settings import FinetuneSettings, TuneSettings
from ..system import default_workers
from ..training.batches import Sequences
from ..training.checkpoints import finish
from ..training.loop import Trainer, WarmupCosine, parameter_groups
from ..training.step import adamw
from ..workers.prefetch import FramePrefetcher
from .augment import augmentation_for
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


@dataclass(frozen=True)
class ParityCheck:
    """The validation clips before the first step: how many are right by the network from raw frames, and by the head on
    the cache; `difference`: between their logits, at most; `agree`: how many predictions are the same; `loss`: the
    network's mean cross-entropy from raw frames.
    """

    clips: int
    raw: int
    cached: int
    agree: int
    difference: float
    loss: float


def finetune(settings: FinetuneSettings, progress: Progress = Progress()) -> Finetuned:
    """Train encoder and head of a run of stage two end to end, on the clips that it was trained and validated on.

    Raises HarCacheError: bad settings; a run, cache or data set that is not there, damaged, or does not belong to the
    others; a run directory that is in use.
    """
    settings.check()
    device = resolve_device(settings.device, progress.say)
    inputs = _open(settings)
    training = _with_frames(settings.training, inputs.start, progress.say)
    settings = dataclasses.replace(settings, training=training)
    config = _config(settings, inputs, device)
    clips = inputs.start.clips
    if not begin(settings.run, config, clips, settings.resume, settings.overwrite, say=progress.say):
        return Finetuned(Run.open(settings.run), None, {})
    system.limit_threads()
    workers = settings.workers or _default_workers(device)
    ahead = _AHEAD_BATCHES * training.batch_size + workers
    frames = max(training.frames, inputs.start.config.training.frames)
    # A GPU resizes frames in less time than workers, who then decode twice as many.
    as_decoded = torch.device(device).type == "cuda"
    with FramePrefetcher(frames, workers, ahead, settings.stall_s, as_decoded) as prefetcher:
        labels = labels_for(inputs.start, inputs.cache)
        raw = RawClips(inputs.cache, labels, inputs.index, prefetcher, device, progress)
        throughput = _train(settings, inputs, raw, config, progress)
    return Finetuned(Run.open(settings.run), throughput, raw.failures)


@torch.no_grad()
def check_parity(
    network: CNNBidirectionalRNN, raw: RawClips, sequences: Sequences, clips: np.ndarray, training: TuneSettings
) -> ParityCheck:
    """Compare the network, on its device, on raw frames with its head on the cache: both see the centred frames of the
    same clips, as many as `training` says: those that the head learnt with.
    """
    network.eval()
    with true_fp32(raw.device):
        batches = RawEvalBatches(raw, clips, training)
        found = [(network(inputs, mask), labels) for inputs, mask, labels in batches if len(labels)]
        decoded = clips[[raw.keys[i] not in raw.failures for i in clips]]
        ready = sequences.eval_batches(decoded, training.frames, training.batch_size)
        by_head = [network.head(inputs, mask) for inputs, mask, _ in ready]
    logits, truth = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    cached = torch.cat(by_head).cpu()
    predicted, expected = logits.argmax(1), cached.argmax(1)
    return ParityCheck(
        clips=len(truth),
        raw=int((predicted == truth).sum()),
        cached=int((expected == truth).sum()),
        agree=int((predicted == expected).sum()),
        difference=float((logits - cached).abs().max()),
        loss=float(F.cross_entropy(logits, truth)),
    )


def network_trainer(network: CNNBidirectionalRNN, settings: TuneSettings, batches: int) -> Trainer:
    """As stage two's, but that the backbone learns later than the head and more slowly, with a warm-up of its own.

    `network`: its encoder a Backbone; `batches`: of an epoch.
    """
    encoder, s = network.encoder, settings
    assert isinstance(encoder, Backbone)
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

    return Trainer(network, optimizer, rates, s, s.accumulate, start_epoch)


@dataclass(frozen=True)
class _Inputs:
    """A run of stage two, its cache and network, and the data set that the cache was made from."""

    start: Run
    cache: FeatureCache
    network: CNNBidirectionalRNN
    index: ClipIndex


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
    index = read_index(settings.data)
    if lost := start.clips.keys() - set(cache.keys):
        raise CacheError(f"{cache.path}: lacks {len(lost)} clips that {start.path} was trained on ({min(lost)}, ...)")
    digests = dict(zip(cache.keys, cache.source_sha256, strict=True))
    files = {clip.key: clip.path for clip in index.clips if start.clips.get(clip.key) == "val"}
    if other := [key for key, path in files.items() if source_sha256(path) != digests[key]]:
        raise DataError(
            f"{index.root}: {len(other)} of {len(files)} validation clips are other files than {cache.path} was made "
            f"from ({other[0]}, ...): choose its --data, or bring the cache up to date"
        )
    return _Inputs(start, cache, network, index)


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
) -> Throughput | None:
    training, cache, clips = settings.training, inputs.cache, inputs.start.clips
    place = {key: i for i, key in enumerate(cache.keys)}
    train, val = (np.array([place[key] for key, s in clips.items() if s == name], int) for name in run.SUBSETS)
    progress.say(
        f"Split {config.split}: fine-tuning on {len(train)} clips of {len(config.classes)} classes, "
        f"validating on the centred frames of {len(val)}; {raw.prefetcher.workers} processes decode"
    )
    network = inputs.network.to(raw.device)
    before = dataclasses.replace(training, frames=inputs.start.config.training.frames)
    sequences = Sequences.from_cache(cache, raw.device)
    found = check_parity(network, raw, sequences, val, before)
    progress.say(
        f"Before the first step: {found.raw} of {found.clips} validation clips right from raw frames, {found.cached} "
        f"by the head on the cache; {found.agree} predicted alike, logits at most {found.difference:.1e} apart"
    )
    torch.manual_seed(training.seed)
    backbone = Backbone(network.encoder, training.unfreeze, training.train_norms, training.checkpointing)
    network = CNNBidirectionalRNN(backbone, network.head)
    begun = {name: value.clone() for name, value in network.state_dict().items()}
    batches = RawTrainBatches(raw, train, training, augmentation_for(config.recipe))
    trainer = network_trainer(network, training, len(batches))
    best = trainer.fit(batches, RawEvalBatches(raw, val, training), settings.run, progress, settings.resume)
    chosen = BestEpoch(int(best["epoch"]), best["val_loss"], best["val_accuracy"])
    if chosen.val_loss >= found.loss:
        progress.say("No epoch lowered the validation loss: the weights that it started from are kept")
        network.load_state_dict(begun)
        if before != training:  # what is recorded is of the frames that the run is used with
            found = check_parity(network, raw, sequences, val, training)
        chosen = BestEpoch(0, found.loss, found.raw / found.clips)
    finish(settings.run, dataclasses.replace(config, skipped=raw.failures), network, chosen)
    return batches.stopwatch.throughput


def _default_workers(device: str) -> int:
    """On the CPU they share the cores with the training, which needs most of them; a GPU needs all that they give."""
    return max(1, system.cores() // 2) if device == "cpu" else default_workers()
