"""Stage three: a run of stage two, its cache's encoder and the raw clips -> both trained end to end, as a run again."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

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
from ..workers.prefetch import FramePrefetcher as Picker
from .augment import centred
from .batches import Sequences
from .end_to_end import FineTuner
from .loop import fit
from .pace import Pace, Pacer
from .raw_batches import Footage, RawEvalBatches, RawTrainBatches
from .train_head import limit_threads, versions

_AHEAD_BATCHES = 3


@dataclass(frozen=True)
class Finetuned:
    """What came of it: the finished run, how fast it went (None where it was finished before), and the clips that were
    left out since they do not decode, with the reason.
    """

    run: Run
    pace: Pace | None
    failures: Mapping[str, str]


@dataclass(frozen=True)
class HandOver:
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
    limit_threads()

    def tell(key: str, reason: str) -> None:
        progress.say(f"Skipped: {key}: {reason}")

    workers = settings.workers or _default_workers(device)
    ahead = _AHEAD_BATCHES * settings.training.batch_size + workers
    with Picker(settings.training.frames, workers, ahead, settings.stall_s) as picker:
        footage = Footage.of_cache(cache, labels_for(source, cache), index, picker, device, tell)
        pace = _train(settings, network, cache, footage, source, config, progress)
    return Finetuned(Run.open(settings.run), pace, footage.failures)


@torch.inference_mode()
def hand_over(
    network: CNNBidirectionalRNN, footage: Footage, sequences: Sequences, clips: np.ndarray, training: TuneSettings
) -> HandOver:
    """Compare the network on raw frames with its head on the cache: both see the centred frames of the same clips."""
    network = network.to(footage.device).eval()
    pairs, labels = [], []
    size = training.batch_size
    with true_fp32(footage.device):
        for start, batch in enumerate(RawEvalBatches(footage, clips, training.frames, size)):
            part = clips[start * size : (start + 1) * size]
            part = part[[footage.keys[i] not in footage.failures for i in part]]
            if not len(part):
                continue
            cached = sequences.eval_batch(torch.from_numpy(part).to(sequences.device), training.frames)
            raw = network(centred(batch.inputs), batch.mask)
            pairs.append(torch.stack([raw, network.head(cached.inputs, cached.mask)]).cpu())
            labels.append(batch.labels.cpu())
    logits, truth = torch.cat(pairs, 1), torch.cat(labels)
    raw, cached = logits.argmax(2)
    return HandOver(
        clips=len(truth),
        raw=int((raw == truth).sum()),
        cached=int((cached == truth).sum()),
        agree=int((raw == cached).sum()),
        difference=float((logits[0] - logits[1]).abs().max()),
        loss=float(F.cross_entropy(logits[0], truth)),
    )


def _train(
    settings: FinetuneSettings,
    network: CNNBidirectionalRNN,
    cache: FeatureCache,
    footage: Footage,
    source: Run,
    config: RunConfig,
    progress: Progress,
) -> Pace | None:
    path, training, device = settings.run, settings.training, footage.device.type
    place = {key: i for i, key in enumerate(cache.keys)}
    train, val = (np.array([place[k] for k, s in source.clips.items() if s == name], int) for name in run.SUBSETS)
    progress.say(
        f"Split {config.split}: fine-tuning on {len(train)} clips of {len(config.classes)} classes, "
        f"validating on {len(val)}; {footage.picker.workers} processes decode"
    )
    found = hand_over(network, footage, Sequences.from_cache(cache, device), val, training)
    progress.say(
        f"Before the first step: {found.raw} of {found.clips} validation clips right from raw frames, {found.cached} "
        f"by the head on the cache; {found.agree} predicted alike, logits at most {found.difference:.1e} apart"
    )
    torch.manual_seed(training.seed)
    backbone = Backbone(network.encoder, training.unfreeze, training.train_norms, training.checkpointing)
    batches = RawTrainBatches(footage, train, training.frames, training.batch_size, training.seed)
    held_out = RawEvalBatches(footage, val, training.frames, training.batch_size)
    module = FineTuner(CNNBidirectionalRNN(backbone, network.head), training, len(batches)).train()
    begun = {name: value.clone() for name, value in module.network.state_dict().items()}
    pacer = Pacer(batches.clock, footage.picker.workers, device)
    best = fit(module, batches, held_out, path, device, progress, settings.resume, training.accumulate, [pacer])
    chosen = BestEpoch(int(best["epoch"]), best["val_loss"], best["val_accuracy"])
    if best["val_loss"] >= found.loss:
        progress.say("No epoch lowered the validation loss: the weights that it started from are kept")
        module.network.load_state_dict(begun)
        chosen = BestEpoch(0, found.loss, found.raw / found.clips)
    digest = run.save_model(module.network, path)
    plot_curves(path / run.METRICS, path / run.CURVES, chosen.epoch)
    done = dataclasses.replace(config, skipped=footage.failures, model_sha256=digest, best=chosen)
    write_config(path, done)
    return pacer.pace


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
        versions=versions(),
        started_from=Start(str(settings.start), start.model_sha256),
        model_sha256=None,
        best=None,
    )


def _default_workers(device: str) -> int:
    """On the CPU they share the cores with the training, which needs most of them; a GPU needs all that they give."""
    return max(1, system.cores() // 2) if device == "cpu" else default_workers()
