"""Before the first shard: the frozen encoder of a new cache. Weights found, calibrated where random, projection fitted,
precision chosen; all on frames of the data set itself, and the same for any number of workers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models import MNASNet

from ..cache.recipe import EMBEDDING, FEATURES, Recipe
from ..data.index import Clip
from ..encoder.encoder import choose_precision
from ..encoder.folded import fold
from ..encoder.projection import fit_pca, random_projection
from ..encoder.transform import TRANSFORM, normalise
from ..encoder.weights import Weights, calibrate, find_weights, load_state, new_model, save_encoder, tensors_sha256
from ..errors import ClipError, HarCacheError, WeightsError
from ..files import sha256
from ..model.load import run_weights
from ..workers.pool import Workers
from ..workers.sampling import features, sample
from ..workers.tasks import Job

_PROBE_FRAMES, _PROBE_CLIPS = 128, 64
_PCA_FRAMES, _PCA_CLIPS = 4096, 1024
_FEW_FRAMES = 4 * EMBEDDING
_CALIBRATION_BATCH = 32

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What the user asks of the encoder; `projection` None means the one in the weights file, else PCA."""

    weights: str
    projection: str | None
    views: tuple[str, ...]
    precision: str
    decoder: str
    device: str
    seed: int


@dataclass(frozen=True)
class Projection:
    """weight (256, 1280), bias (256,), and for the recipe: where they came from."""

    weight: Tensor
    bias: Tensor
    name: str
    fit: str


def prepare(wish: Wish, clips: Sequence[Clip], workers: int, stall_s: float, say: Say) -> tuple[Recipe, bytes]:
    """The recipe of a new cache and the bytes of its `encoder.safetensors`.

    Frames to fit on come from clips that no split tests on, so that one cache serves all splits honestly; where there
    is no such clip that can be decoded, from all clips, and `say` and the recipe tell. Raises HarCacheError.
    """
    weights = _find_weights(wish)
    fit_clips = [clip for clip in clips if not clip.tested] or list(clips)
    model = load_state(new_model(), {**weights.backbone, **_classifier(random_projection(0))})
    job = Job(wish.decoder, stall_s=stall_s)
    with one_thread():
        try:
            crops = _probe_crops(fit_clips, job, workers, say)
        except HarCacheError:
            if len(fit_clips) == len(clips):
                raise
            fit_clips = list(clips)  # a few clips that no split tests on, and all of them bad
            crops = _probe_crops(fit_clips, job, workers, say)
        if weights.name == "random":
            say(f"Calibrating BatchNorm of the random weights on {len(crops)} frames")
            calibrate(model, normalise(crops).split(_CALIBRATION_BATCH))
        projection = _projection(wish, weights, model, fit_clips, job, workers, say)
        load_state(model, {**model.state_dict(), **_classifier((projection.weight, projection.bias))})
        precision, faithfulness = choose_precision(fold(model), crops, wish.device, wish.precision)
    say(f"Precision {precision}: the least faithful of {len(crops)} frames has cosine {faithfulness:.4f} to fp32")
    encoder = save_encoder(model)
    recipe = Recipe(
        weights=weights.name,
        weights_sha256=weights.sha256,
        projection=projection.name,
        projection_fit=projection.fit,
        encoder_sha256=sha256(encoder),
        transform=TRANSFORM,
        views=wish.views,
        precision=precision,
        faithfulness=round(faithfulness, 4),
        decoder=wish.decoder,
        device=torch.device(wish.device).type,
        seed=wish.seed,
        trained_split=weights.trained_split,
    )
    return recipe, encoder


def differences(wish: Wish, recipe: Recipe) -> list[str]:
    """How a wish differs from the recipe of an existing cache: `field: cached (asked: other)`. `auto` fits anything."""
    weights = _find_weights(wish) if _is_file(wish.weights, "imagenet", "random") else None
    name, digest = (weights.name, weights.sha256) if weights else (wish.weights, recipe.weights_sha256)
    projection, fit = _wished_projection(wish, weights, recipe)
    pairs = {
        "weights": (recipe.weights, name),
        "weights_sha256": (recipe.weights_sha256, digest if name == recipe.weights else recipe.weights_sha256),
        "projection": (recipe.projection, projection),
        "projection_fit": (recipe.projection_fit, fit if projection == recipe.projection else recipe.projection_fit),
        "views": (",".join(recipe.views), ",".join(wish.views)),
        "precision": (recipe.precision, recipe.precision if wish.precision == "auto" else wish.precision),
        "decoder": (recipe.decoder, wish.decoder),
        "device": (recipe.device, torch.device(wish.device).type),
        "seed": (recipe.seed, wish.seed),
    }
    return [f"{field}: {cached} (asked: {asked})" for field, (cached, asked) in pairs.items() if cached != asked]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, so that sums are added up in one order on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _probe_crops(clips: Sequence[Clip], job: Job, workers: int, say: Say) -> Tensor:
    """Frames from all over the data set, float32 (n, 3, 224, 224), neighbours from different clips."""
    picked = _spread(clips, _PROBE_CLIPS)
    say(f"Sampling frames of {len(picked)} clips")
    each = math.ceil(_PROBE_FRAMES / len(picked))
    arrays = _gather(sample, picked, each, job, workers)
    order = sorted((i, clip) for clip, array in enumerate(arrays) for i in range(len(array)))
    return torch.from_numpy(np.stack([arrays[clip][i] for i, clip in order])).float()


def _projection(
    wish: Wish, weights: Weights, model: MNASNet, clips: Sequence[Clip], job: Job, workers: int, say: Say
) -> Projection:
    wished = wish.projection or ("file" if weights.projection else "pca")
    if wished == "random":
        return Projection(*random_projection(wish.seed), "random", "")
    if wished != "pca":
        tensors = weights.projection if wish.projection is None else _file_projection(wished)
        assert tensors is not None
        name, fit = (weights.projection_name, weights.projection_fit) if wish.projection is None else ("file", "")
        return Projection(*tensors, name, fit or _projection_sha256(tensors))
    picked = _spread(clips, _PCA_CLIPS)
    say(f"Fitting the projection (PCA) on {len(picked)} clips")
    job = replace(job, encoder=fold(model))
    arrays = _gather(features, picked, math.ceil(_PCA_FRAMES / len(picked)), job, workers)
    matrix = np.concatenate(arrays)
    honest = not any(clip.tested for clip in picked)
    whose = "that no split tests on" if honest else "(test clips included)"
    fit = f"{len(matrix)} frames of {len(arrays)} clips {whose}"
    if not honest:
        say("WARNING: every clip is in some split's test list: the projection was fitted on test clips too (no labels)")
    if len(matrix) < _FEW_FRAMES:
        say(f"WARNING: the projection was fitted on only {len(matrix)} frames; consider --projection random")
    return Projection(*fit_pca(matrix), "pca", fit)


def _wished_projection(wish: Wish, weights: Weights | None, recipe: Recipe) -> tuple[str, str]:
    if _is_file(wish.projection or "pca", "pca", "random"):
        return "file", _projection_sha256(_file_projection(str(wish.projection)))
    if wish.projection is None and weights and weights.projection:
        return weights.projection_name, weights.projection_fit or _projection_sha256(weights.projection)
    return wish.projection or "pca", recipe.projection_fit


def _find_weights(wish: Wish) -> Weights:
    path = Path(wish.weights)
    is_run = _is_file(wish.weights, "imagenet", "random") and path.is_dir()
    return run_weights(path) if is_run else find_weights(wish.weights, wish.seed)


def _gather(
    function: Callable[[Path, int], np.ndarray], clips: Sequence[Clip], count: int, job: Job, workers: int
) -> list[np.ndarray]:
    """`function(path, count)` of each clip, in the clips' order; clips that fail are left out."""
    with Workers(job, workers) as pool:
        calls: list[tuple[int, tuple[Any, ...]]] = [(i, (clip.path, count)) for i, clip in enumerate(clips)]
        outcomes = dict(pool.run(function, calls))
    arrays = [outcomes[i] for i in range(len(clips)) if not isinstance(outcomes[i], ClipError)]
    if not arrays:
        raise HarCacheError(f"none of the {len(clips)} clips tried can be decoded; {clips[0].key}: {outcomes[0]}")
    return arrays


def _file_projection(path: str) -> tuple[Tensor, Tensor]:
    if not Path(path).is_file():
        raise WeightsError(f"--projection: no such file: {path} (or one of: pca, random)")
    projection = find_weights(path).projection
    if projection is None:
        raise HarCacheError(f"--projection {path}: holds no projection (classifier of {EMBEDDING} x {FEATURES})")
    return projection


def _projection_sha256(projection: tuple[Tensor, Tensor]) -> str:
    return tensors_sha256(_classifier(projection))


def _classifier(projection: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {"classifier.weight": projection[0], "classifier.bias": projection[1]}


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` clips, evenly over the data set."""
    count = min(count, len(clips))
    return [clips[i * len(clips) // count] for i in range(count)]


def _is_file(source: str, *names: str) -> bool:
    return source not in names
