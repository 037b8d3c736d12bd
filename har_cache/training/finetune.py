"""Stage three: a run of stage two, its cache's encoder and the raw clips -> both trained end to end, as a run again."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from .. import system
from ..cache.reader import FeatureCache
from ..cache.record import source_sha256
from ..data.index import ClipIndex, read_index
from ..encoder.encoder import true_fp32
from ..errors import CacheError, DataError, RunError
from ..model import run
from ..model.config import FINETUNED, BestEpoch, RunConfig, Start, write_config
from ..model.load import labels_for, load_network, open_cache
from ..model.network import Backbone, CNNBidirectionalRNN
from ..model.run import Run, begin
from ..plots import plot_curves
from ..progress import Progress
from ..settings import FinetuneSettings, TuneSettings
from ..system import default_workers, resolve_device
from ..workers.prefetch import FramePrefetcher
from .augment import Augmentation, augmented, centred
from .batches import Batch, Sequences
from .loop import Trainer, WarmupCosine, parameter_groups
from .raw_batches import Footage, RawEvalBatches, RawTrainBatches
from .throughput import Stopwatch, Throughput

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
    device = resolve_device(settings.device)
    source = Run.open(settings.start)
    if started_from := source.config.started_from:
        raise RunError(f"{settings.start}: is fine-tuned already; start from {started_from.run}")
    cache = open_cache([source], settings.cache)
    network = load_network(source)
    index = read_index(settings.data)
    _check_files(cache, index, source)
    config = _config(settings, source, cache, device)
    if not begin(settings.run, config, source.clips, settings.resume, settings.overwrite):
        return Finetuned(Run.open(settings.run), None, {})
    system.limit_threads()

    def tell(key: str, reason: str) -> None:
        progress.say(f"Skipped: {key}: {reason}")

    workers = settings.workers or _default_workers(device)
    ahead = _AHEAD_BATCHES * settings.training.batch_size + workers
    with FramePrefetcher(settings.training.frames, workers, ahead, settings.stall_s) as picker:
        footage = Footage.of_cache(cache, labels_for(source, cache), index, picker, device, tell)
        throughput = _train(settings, network.to(device), cache, footage, source, config, progress)
    return Finetuned(Run.open(settings.run), throughput, footage.failures)


@torch.no_grad()
def check_parity(
    network: CNNBidirectionalRNN, footage: Footage, sequences: Sequences, clips: np.ndarray, training: TuneSettings
) -> ParityCheck:
    """Compare the network, on its device, on raw frames with its head on the cache: both see the centred frames of the
    same clips.
    """
    network.eval()
    pairs, labels = [], []
    size = training.batch_size
    with true_fp32(footage.device):
        for start, batch in enumerate(CentredBatches(footage, clips, training.frames, size)):
            part = clips[start * size : (start + 1) * size]
            part = part[[footage.keys[i] not in footage.failures for i in part]]
            if not len(part):
                continue
            cached = sequences.eval_batch(torch.from_numpy(part).to(sequences.device), training.frames)
            raw = network(batch.inputs, batch.mask)
            pairs.append(torch.stack([raw, network.head(cached.inputs, cached.mask)]).cpu())
            labels.append(batch.labels.cpu())
    logits, truth = torch.cat(pairs, 1), torch.cat(labels)
    raw, cached = logits.argmax(2)
    return ParityCheck(
        clips=len(truth),
        raw=int((raw == truth).sum()),
        cached=int((cached == truth).sum()),
        agree=int((raw == cached).sum()),
        difference=float((logits[0] - logits[1]).abs().max()),
        loss=float(F.cross_entropy(logits[0], truth)),
    )


class AugmentedBatches(RawTrainBatches):
    """The training clips as the network takes them: augmented, or as in validation. Its `stopwatch` times each step."""

    def __init__(self, footage: Footage, clips: np.ndarray, settings: TuneSettings) -> None:
        super().__init__(footage, clips, settings.frames, settings.batch_size, settings.seed)
        self.stopwatch = Stopwatch(self.clock, footage.picker.workers, footage.device.type)
        self._transform = partial(augmented, how=Augmentation()) if settings.augment else centred

    def __iter__(self) -> Iterator[Batch]:
        return (_transformed(batch, self._transform) for batch in self.stopwatch.timed(super().__iter__()))


class CentredBatches(RawEvalBatches):
    """Clips as the network takes them, by its own transform."""

    def __iter__(self) -> Iterator[Batch]:
        return (_transformed(batch, centred) for batch in super().__iter__())


def network_trainer(network: CNNBidirectionalRNN, settings: TuneSettings, batches: int) -> Trainer:
    """As stage two's, but that the backbone learns later than the head and more slowly, with a warm-up of its own.

    `network`: its encoder a Backbone; `batches`: of an epoch.
    """
    encoder, s = network.encoder, settings
    assert isinstance(encoder, Backbone)
    head = parameter_groups(network.head, s.weight_decay)
    slow = parameter_groups(encoder, s.weight_decay)
    backbone = [{**group, "lr": s.lr * s.backbone_lr} for group in slow if group["params"]]
    optimizer = torch.optim.AdamW([*head, *backbone], lr=s.lr)
    steps = -(-batches // s.accumulate)
    whole = WarmupCosine(s.epochs * steps, s.warmup)
    late = _LateWarmupCosine(whole.total, s.warmup, s.head_epochs * steps)
    curves: list[Callable[[int], float]] = [*[whole] * len(head), *[late] * len(backbone)]

    def start_epoch(epoch: int) -> None:
        encoder.asleep = epoch < s.head_epochs

    return Trainer(network, optimizer, LambdaLR(optimizer, curves), s, s.accumulate, start_epoch)


@dataclass(frozen=True)
class _LateWarmupCosine(WarmupCosine):
    """The same for what starts to learn at a step only, and then has a warm-up of its own."""

    start: int

    def __call__(self, step: int) -> float:
        rising = max(1, round(self.total * self.warmup))
        return super().__call__(step) * min(1.0, max(0, step - self.start + 1) / rising)


def _transformed(batch: Batch, transform: Callable[[Tensor], Tensor]) -> Batch:
    return batch._replace(inputs=transform(batch.inputs)) if len(batch.labels) else batch


def _train(
    settings: FinetuneSettings,
    network: CNNBidirectionalRNN,
    cache: FeatureCache,
    footage: Footage,
    source: Run,
    config: RunConfig,
    progress: Progress,
) -> Throughput | None:
    path, training, device = settings.run, settings.training, footage.device.type
    place = {key: i for i, key in enumerate(cache.keys)}
    train, val = (np.array([place[k] for k, s in source.clips.items() if s == name], int) for name in run.SUBSETS)
    progress.say(
        f"Split {config.split}: fine-tuning on {len(train)} clips of {len(config.classes)} classes, "
        f"validating on {len(val)}; {footage.picker.workers} processes decode"
    )
    found = check_parity(network, footage, Sequences.from_cache(cache, device), val, training)
    progress.say(
        f"Before the first step: {found.raw} of {found.clips} validation clips right from raw frames, {found.cached} "
        f"by the head on the cache; {found.agree} predicted alike, logits at most {found.difference:.1e} apart"
    )
    torch.manual_seed(training.seed)
    backbone = Backbone(network.encoder, training.unfreeze, training.train_norms, training.checkpointing)
    network = CNNBidirectionalRNN(backbone, network.head)
    begun = {name: value.clone() for name, value in network.state_dict().items()}
    batches = AugmentedBatches(footage, train, training)
    held_out = CentredBatches(footage, val, training.frames, training.batch_size)
    best = network_trainer(network, training, len(batches)).fit(batches, held_out, path, progress, settings.resume)
    chosen = BestEpoch(int(best["epoch"]), best["val_loss"], best["val_accuracy"])
    if best["val_loss"] >= found.loss:
        progress.say("No epoch lowered the validation loss: the weights that it started from are kept")
        network.load_state_dict(begun)
        chosen = BestEpoch(0, found.loss, found.raw / found.clips)
    digest = run.save_model(network, path)
    plot_curves(path / run.METRICS, path / run.CURVES, chosen.epoch)
    done = dataclasses.replace(config, skipped=footage.failures, model_sha256=digest, best=chosen)
    write_config(path, done)
    return batches.stopwatch.throughput


def _check_files(cache: FeatureCache, index: ClipIndex, source: Run) -> None:
    """Refuse a data set that is not the one the cache was made from; by the validation clips, which are soon read."""
    lost = source.clips.keys() - set(cache.keys)
    if lost:
        raise CacheError(f"{cache.path}: lacks {len(lost)} clips that {source.path} was trained on ({min(lost)}, ...)")
    digests = dict(zip(cache.keys, cache.source_sha256, strict=True))
    files = {clip.key: clip.path for clip in index.clips if source.clips.get(clip.key) == "val"}
    other = [key for key, path in files.items() if source_sha256(path) != digests[key]]
    if other:
        raise DataError(
            f"{index.root}: {len(other)} of {len(files)} validation clips are other files than {cache.path} was made "
            f"from ({other[0]}, ...): choose its --data, or bring the cache up to date"
        )


def _config(settings: FinetuneSettings, start: Run, cache: FeatureCache, device: str) -> RunConfig:
    return dataclasses.replace(
        start.config,
        stage=FINETUNED,
        cache=str(cache.path),
        data=str(settings.data),
        training=settings.training,
        device=device,
        versions=system.versions(),
        started_from=Start(str(settings.start), start.model_sha256),
        model_sha256=None,
        best=None,
    )


def _default_workers(device: str) -> int:
    """On the CPU they share the cores with the training, which needs most of them; a GPU needs all that they give."""
    return max(1, system.cores() // 2) if device == "cpu" else default_workers()
