"""Before the first shard: the frozen encoder of a new cache. Weights found, calibrated where random, projection fitted,
precision chosen; all on frames of the data set itself, and the same for any number of workers.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..cache.manifest import TESTED, UNTESTED
from ..cache.recipe import Recipe
from ..data.index import Clip
from ..devices import kind_of
from ..encoder.architectures.eager import batch_size
from ..encoder.architectures.names import architecture
from ..encoder.architectures.packing import pack, unpack
from ..encoder.encoder import CPU_BATCH, choose_precision
from ..encoder.projection import fit_pca, random_projection
from ..encoder.transform import described, normalise
from ..encoder.weights import Weights, calibrate, has_batch_norms, save_encoder
from ..errors import ClipError, HarCacheError, WeightsError
from ..progress import Progress
from ..settings.extraction import ExtractSettings
from ..settings.names import IMAGENET, IMAGENET_OR_RANDOM
from ..storage.files import sha256
from ..system import one_thread
from ..video.sampling import Sampling
from ..workers.pool import WorkerKilledError, WorkerPool
from ..workers.tasks import Job, features, sample
from .given import NO_PROJECTION, Projection, dim_of, find, given_projection

_PROBE_FRAMES, _PROBE_CLIPS, _LEAST_PROBE = 128, 64, 32
_PCA_FRAMES, _PCA_CLIPS = 4096, 1024
_FEW_FRAMES = 4  # times the components
_CALIBRATION_BATCH = 32

T = TypeVar("T")


def prepare(settings: ExtractSettings, clips: Sequence[Clip], workers: int, progress: Progress) -> tuple[Recipe, bytes]:
    """The recipe of a new cache and the bytes of its `encoder.safetensors`. `settings` name a decoder and a device.

    Frames to fit on come from clips that no split tests on, so that one cache serves all splits honestly; where there
    is no such clip that can be decoded, from all clips, and `progress` and the recipe tell. Raises HarCacheError.
    """
    return _Preparation(settings, clips, workers, progress).run()


class _Preparation:
    """The way to the encoder of a new cache, and what it is made from."""

    def __init__(self, settings: ExtractSettings, clips: Sequence[Clip], workers: int, progress: Progress) -> None:
        self._settings, self._workers, self._progress = settings, workers, progress
        self._known = architecture(settings.encoder)
        self._job = Job(settings.decoder, stall_s=settings.stall_s, transform=self._known.transform)
        self._clips = clips
        self._fit_clips = [clip for clip in clips if not clip.tested] or clips

    def run(self) -> tuple[Recipe, bytes]:
        """Find weights, calibrate them where they are random, fit the projection, choose the precision."""
        settings, say, known = self._settings, self._progress.say, self._known
        weights = self._find_weights()
        dim = dim_of(settings, weights)
        known.check_dim(dim)
        model = known.build(weights.backbone)
        with one_thread():
            crops = self._probe_crops()
            if weights.name == "random" and has_batch_norms(model):
                self._calibrate(model, crops)
            projection = self._projection(weights, model, dim) if dim else NO_PROJECTION
            model = known.build({**model.state_dict(), **known.classifier_state(projection.tensors)})
            say(f"Choosing the precision on {len(crops)} frames")
            packed = pack(model, known.name, known.transform)
            precision, faithfulness = choose_precision(packed, crops, settings.device, settings.precision, unpack)
        say(f"Precision {precision}: the least faithful of {len(crops)} frames has cosine {faithfulness:.4f} to fp32")
        encoder = save_encoder(model)
        recipe = Recipe(
            weights=weights.name,
            weights_sha256=weights.sha256,
            projection=projection.name,
            projection_fit=projection.fit,
            encoder_sha256=sha256(encoder),
            transform=described(settings.views, known.transform),
            views=settings.views,
            precision=precision,
            faithfulness=round(faithfulness, 4),
            decoder=settings.decoder,
            device=kind_of(settings.device),
            seed=settings.seed,
            model=known.name,
            dim=dim or known.features,
            trained_split=weights.trained_split,
            frames=Sampling(settings.every, settings.fps).text,
        )
        return recipe, encoder

    def _find_weights(self) -> Weights:
        if self._settings.weights != IMAGENET_OR_RANDOM:
            return find(self._settings)
        try:
            return find(replace(self._settings, weights=IMAGENET))
        except WeightsError as error:
            self._progress.say(f"NOTE: {error}")
            self._progress.say("NOTE: this demonstration goes on with RANDOM weights, calibrated on its own frames.")
            return find(replace(self._settings, weights="random"))

    def _probe_crops(self) -> Tensor:
        """Frames from all over the data set, float32 (n, 3, side, side), neighbours from different clips."""
        try:
            arrays = self._sampled()
        except HarCacheError:
            if len(self._fit_clips) == len(self._clips):
                raise
            self._fit_clips = self._clips  # a few clips that no split tests on, and all of them bad
            arrays = self._sampled()
        order = sorted((i, clip) for clip, array in enumerate(arrays) for i in range(len(array)))
        return torch.from_numpy(np.stack([arrays[clip][i] for i, clip in order])).float()

    def _sampled(self) -> list[np.ndarray]:
        picked = _spread(self._fit_clips, _PROBE_CLIPS)
        self._progress.say(f"Sampling frames of {len(picked)} clips")
        frames = max(_LEAST_PROBE, _PROBE_FRAMES * batch_size(self._known.transform) // CPU_BATCH)
        return self._gather("Sampling", sample, picked, math.ceil(frames / len(picked)), self._job)

    def _calibrate(self, model: nn.Module, crops: Tensor) -> None:
        self._progress.say(f"Calibrating BatchNorm of the random weights on {len(crops)} frames")
        batches = normalise(crops, self._known.transform).split(_CALIBRATION_BATCH)
        with self._progress.task("Calibrating", "batch", len(batches)):
            calibrate(model, _counted(batches, self._progress))

    def _projection(self, weights: Weights, model: nn.Module, dim: int) -> Projection:
        if given := given_projection(self._settings, weights):
            return given
        if self._settings.projection == "random":
            return Projection(random_projection(self._settings.seed, self._known.features, dim), "random", "")
        return self._pca(model, dim)

    def _pca(self, model: nn.Module, dim: int) -> Projection:
        picked, say = _spread(self._fit_clips, _PCA_CLIPS), self._progress.say
        say(f"Fitting the projection (PCA) on {len(picked)} clips")
        job = replace(self._job, encoder=pack(model, self._known.name, self._known.transform))
        arrays = self._gather("Fitting", features, picked, math.ceil(_PCA_FRAMES / len(picked)), job)
        matrix = np.concatenate(arrays)
        honest = not any(clip.tested for clip in picked)
        fitted_on = UNTESTED if honest else f"({TESTED})"
        fit = f"{len(matrix)} frames of {len(arrays)} clips {fitted_on}"
        if not honest:
            say(
                "WARNING: every clip is in some split's test list: the projection was fitted on test clips too "
                "(no labels)"
            )
        if len(matrix) < _FEW_FRAMES * dim:
            say(f"WARNING: the projection was fitted on only {len(matrix)} frames; consider --projection random")
        return Projection(fit_pca(matrix, dim), "pca", fit)

    def _gather(
        self, what: str, function: Callable[[Path, int], np.ndarray], clips: Sequence[Clip], count: int, job: Job
    ) -> list[np.ndarray]:
        """`function(path, count)` of each clip, in the clips' order; clips that fail are left out, which is told.

        Raises HarCacheError where none is left, or workers are killed from outside: without those clips it would be
        another encoder.
        """
        with WorkerPool(job, self._workers) as pool, self._progress.task(what, "clip", len(clips)):
            calls: list[tuple[int, tuple[Any, ...]]] = [(i, (clip.path, count)) for i, clip in enumerate(clips)]
            outcomes = dict(_counted(pool.run(function, calls), self._progress))
        failed = [(clip.key, outcomes[i]) for i, clip in enumerate(clips) if isinstance(outcomes[i], ClipError)]
        for key, reason in failed:
            if isinstance(reason, WorkerKilledError):
                raise HarCacheError(f"{what} stopped at {key}: {reason}")
        if len(failed) == len(clips):
            raise HarCacheError(f"none of the {len(clips)} clips tried can be decoded; {clips[0].key}: {outcomes[0]}")
        if failed:
            self._progress.say(f"{what}: {len(failed)} of {len(clips)} clips left out; {failed[0][0]}: {failed[0][1]}")
        return [outcome for _, outcome in sorted(outcomes.items()) if not isinstance(outcome, ClipError)]


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` clips, evenly over the data set."""
    count = min(count, len(clips))
    return [clips[i * len(clips) // count] for i in range(count)]


def _counted(items: Iterable[T], progress: Progress) -> Iterator[T]:
    for item in items:
        yield item
        progress.advance()
