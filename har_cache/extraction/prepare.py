"""Before the first shard: the frozen encoder of a new cache. Weights found, calibrated where random, projection fitted,
precision chosen; all on frames of the data set itself, and the same for any number of workers.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchvision.models import MNASNet

from ..cache.recipe import EMBEDDING, FEATURES, Recipe
from ..data.index import Clip
from ..devices import kind_of
from ..encoder.encoder import choose_precision
from ..encoder.folded import fold
from ..encoder.projection import fit_pca, random_projection
from ..encoder.transform import described, normalise
from ..encoder.weights import Weights, build_encoder, calibrate, find_weights, save_encoder, tensors_sha256
from ..errors import ClipError, HarCacheError, WeightsError
from ..model.load import run_weights
from ..progress import Progress
from ..settings import IMAGENET_OR_RANDOM, NAMED_PROJECTIONS, NAMED_WEIGHTS, ExtractSettings
from ..storage.files import sha256
from ..system import one_thread
from ..video.sampling import Sampling
from ..workers.pool import WorkerKilledError, WorkerPool
from ..workers.tasks import Job, features, sample

_PROBE_FRAMES, _PROBE_CLIPS = 128, 64
_PCA_FRAMES, _PCA_CLIPS = 4096, 1024
_FEW_FRAMES = 4 * EMBEDDING
_CALIBRATION_BATCH = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Projection:
    """weight (256, 1280) and bias (256,), and for the recipe: where they came from."""

    tensors: tuple[Tensor, Tensor]
    name: str
    fit: str


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
        self._job = Job(settings.decoder, stall_s=settings.stall_s)
        self._clips = clips
        self._fit_clips = [clip for clip in clips if not clip.tested] or clips

    def run(self) -> tuple[Recipe, bytes]:
        """Find weights, calibrate them where they are random, fit the projection, choose the precision."""
        settings, say = self._settings, self._progress.say
        weights = self._find_weights()
        model = build_encoder({**weights.backbone, **_classifier(random_projection(0))})
        with one_thread():
            crops = self._probe_crops()
            if weights.name == "random":
                self._calibrate(model, crops)
            projection = self._projection(weights, model)
            model = build_encoder({**model.state_dict(), **_classifier(projection.tensors)})
            say(f"Choosing the precision on {len(crops)} frames")
            precision, faithfulness = choose_precision(fold(model), crops, settings.device, settings.precision)
        say(f"Precision {precision}: the least faithful of {len(crops)} frames has cosine {faithfulness:.4f} to fp32")
        encoder = save_encoder(model)
        recipe = Recipe(
            weights=weights.name,
            weights_sha256=weights.sha256,
            projection=projection.name,
            projection_fit=projection.fit,
            encoder_sha256=sha256(encoder),
            transform=described(settings.views),
            views=settings.views,
            precision=precision,
            faithfulness=round(faithfulness, 4),
            decoder=settings.decoder,
            device=kind_of(settings.device),
            seed=settings.seed,
            trained_split=weights.trained_split,
            frames=Sampling(settings.every, settings.fps).text,
        )
        return recipe, encoder

    def _find_weights(self) -> Weights:
        if self._settings.weights != IMAGENET_OR_RANDOM:
            return find(self._settings.weights, self._settings.seed)
        try:
            return find("imagenet", self._settings.seed)
        except WeightsError as error:
            self._progress.say(f"NOTE: {error}")
            self._progress.say("NOTE: this demonstration goes on with RANDOM weights, calibrated on its own frames.")
            return find("random", self._settings.seed)

    def _probe_crops(self) -> Tensor:
        """Frames from all over the data set, float32 (n, 3, 224, 224), neighbours from different clips."""
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
        return self._gather("Sampling", sample, picked, math.ceil(_PROBE_FRAMES / len(picked)), self._job)

    def _calibrate(self, model: MNASNet, crops: Tensor) -> None:
        self._progress.say(f"Calibrating BatchNorm of the random weights on {len(crops)} frames")
        batches = normalise(crops).split(_CALIBRATION_BATCH)
        with self._progress.task("Calibrating", "batch", len(batches)):
            calibrate(model, _counted(batches, self._progress))

    def _projection(self, weights: Weights, model: MNASNet) -> Projection:
        asked = self._settings.projection
        if given := given_projection(asked, weights):
            return given
        if asked == "random":
            return Projection(random_projection(self._settings.seed), "random", "")
        return self._pca(model)

    def _pca(self, model: MNASNet) -> Projection:
        picked, say = _spread(self._fit_clips, _PCA_CLIPS), self._progress.say
        say(f"Fitting the projection (PCA) on {len(picked)} clips")
        job = replace(self._job, encoder=fold(model))
        arrays = self._gather("Fitting", features, picked, math.ceil(_PCA_FRAMES / len(picked)), job)
        matrix = np.concatenate(arrays)
        honest = not any(clip.tested for clip in picked)
        fitted_on = "that no split tests on" if honest else "(test clips included)"
        fit = f"{len(matrix)} frames of {len(arrays)} clips {fitted_on}"
        if not honest:
            say(
                "WARNING: every clip is in some split's test list: the projection was fitted on test clips too "
                "(no labels)"
            )
        if len(matrix) < _FEW_FRAMES:
            say(f"WARNING: the projection was fitted on only {len(matrix)} frames; consider --projection random")
        return Projection(fit_pca(matrix), "pca", fit)

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


def find(wanted: str, seed: int) -> Weights:
    """Weights from `imagenet`, `random`, a file, or the directory of a run. Raises HarCacheError."""
    path = Path(wanted)
    return run_weights(path) if wanted not in NAMED_WEIGHTS and path.is_dir() else find_weights(wanted, seed)


def given_projection(asked: str | None, weights: Weights | None) -> Projection | None:
    """The projection in the file that is asked for; where none is, that of the weights; None where there is neither.

    Raises HarCacheError where such a file holds no projection.
    """
    if asked is None and weights and weights.projection:
        fit = weights.projection_fit or _projection_sha256(weights.projection)
        return Projection(weights.projection, weights.projection_name, fit)
    if asked is None or asked in NAMED_PROJECTIONS:
        return None
    if not Path(asked).is_file():
        raise WeightsError(f"--projection: no such file: {asked} (or one of: {', '.join(NAMED_PROJECTIONS)})")
    projection = find_weights(asked).projection
    if projection is None:
        raise HarCacheError(f"--projection {asked}: holds no projection (classifier of {EMBEDDING} x {FEATURES})")
    return Projection(projection, "file", _projection_sha256(projection))


def _projection_sha256(projection: tuple[Tensor, Tensor]) -> str:
    return tensors_sha256(_classifier(projection))


def _classifier(projection: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {"classifier.weight": projection[0], "classifier.bias": projection[1]}


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` clips, evenly over the data set."""
    count = min(count, len(clips))
    return [clips[i * len(clips) // count] for i in range(count)]


def _counted(items: Iterable[T], progress: Progress) -> Iterator[T]:
    for item in items:
        yield item
        progress.advance()
