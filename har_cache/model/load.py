"""Loading of what belongs to a run: its network, from the run's own directory alone, and its cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from ..cache.reader import FeatureCache
from ..data.splits import TEST
from ..encoder.architectures.architecture import Architecture
from ..encoder.architectures.names import architecture
from ..encoder.weights import Weights, build_encoder, load_encoder, save_encoder, tensors_sha256
from ..errors import CacheError, HarCacheError, RunError, SettingError, WeightsError
from ..settings.names import MNASNET
from ..storage.files import read_file, sha256
from .config import FINETUNED
from .network import CNNBidirectionalRNN
from .run import ENCODER, MODEL, Run


def load_network(run: Run) -> CNNBidirectionalRNN:
    """Encoder and head of a run of either stage, float32 on the CPU, in eval mode.

    Raises HarCacheError where a file of the run is missing, damaged, or of an older version of har-cache.
    """
    return CNNBidirectionalRNN(load_run_encoder(run), run.load_head()).eval()


def load_run_encoder(run: Run) -> nn.Module:
    """The encoder of a run, in eval mode: its own where it was fine-tuned, else that of its cache, of which it keeps a
    copy. Raises HarCacheError as `load_network` does, and where there is none, since its features were imported.
    """
    if (origin := run.config.recipe.origin) is not None:
        raise RunError(
            f"{run.path}: its features were imported ({origin}), so there is no encoder for videos: train-head, "
            "evaluate and report work; finetune, predict and export need a cache that har-cache extracted"
        )
    name = _architecture(run).name
    if run.config.stage == FINETUNED:
        try:
            return build_encoder(run.state("encoder"), name)
        except (RuntimeError, ValueError) as error:
            raise RunError(f"{run.path / MODEL}: does not hold an encoder; fine-tune again") from error
    file = run.path / ENCODER
    data = read_file(file) if file.exists() else b""
    if sha256(data) != run.config.recipe.encoder_sha256:
        what = "damaged or replaced" if data else "not there"
        raise RunError(f"{file}: {what}; train again with --overwrite")
    try:
        return load_encoder(data, name)
    except WeightsError as error:
        raise WeightsError(f"{run.path}: {error}") from error


def _architecture(run: Run) -> Architecture:
    try:
        return architecture(run.config.recipe.model)
    except SettingError as error:
        raise RunError(f"{run.path}: {error}") from error


def run_weights(path: Path, encoder: str = MNASNET) -> Weights:
    """The encoder of the run in this directory, to extract a new cache with. Raises HarCacheError as `load_network`,
    and where it is another one than is asked for.
    """
    run = Run.open(path)
    recipe, known = run.config.recipe, _architecture(run)
    if known.name != encoder:
        raise WeightsError(f"--weights {path}: its encoder is {known.name}, not {encoder}: add --encoder {known.name}")
    tuned = run.config.stage == FINETUNED
    state = load_run_encoder(run).state_dict()
    backbone, projection = known.backbone(state), known.projection(state)
    how, digest = ("fine-tuned" if tuned else "of a run"), run.model_sha256[:12]
    return Weights(
        name=f"{recipe.weights}, {how} ({digest})",
        backbone=backbone,
        projection=projection,
        sha256=tensors_sha256(backbone),
        projection_name=f"{recipe.projection}, {how} ({digest})",
        projection_fit=recipe.projection_fit,
        trained_split=run.config.split if tuned else recipe.trained_split,
        native=projection is None,
    )


def open_cache(runs: Sequence[Run], path: Path | None) -> FeatureCache:
    """The cache at `path`, or where the runs had it. Raises CacheError where it is not what they were trained on, nor
    made with what came of it.
    """
    wanted = path or Path(runs[0].config.cache)
    if path is None and not wanted.exists():
        raise CacheError(f"{wanted}: the run's cache is not there any more; say with --cache where it is")
    cache = FeatureCache(wanted)
    for run in runs:
        known = cache.fingerprint == run.config.fingerprint or (
            run.config.stage == FINETUNED and is_encoder_of(load_run_encoder(run), cache)
        )
        if not known:
            raise CacheError(
                f"{wanted} has fingerprint {cache.fingerprint[:12]}, but {run.path} was trained on "
                f"{run.config.fingerprint[:12]}: other embeddings than the model knows; choose its own with --cache"
            )
    return cache


def is_encoder_of(encoder: nn.Module, cache: FeatureCache) -> bool:
    """Whether the cache's embeddings are this encoder's."""
    return sha256(save_encoder(encoder)) == cache.recipe.encoder_sha256


def labels_for(run: Run, cache: FeatureCache) -> np.ndarray:
    """int64 (clips of the cache): their classes in the order that the run knows; -1 for others."""
    place = {name: i for i, name in enumerate(run.config.classes)}
    return np.array([place.get(name, -1) for name in cache.classes], np.int64)[cache.labels]


def check_splits(cache: FeatureCache, *splits: int, option: str = "--split") -> None:
    """Raise HarCacheError where the cache has no splits, or not these, which `option` asks for."""
    if not cache.splits:
        raise CacheError(
            f"{cache.path}: its clips have no labels and no splits: there is nothing to train on or to be scored on; "
            "extract from folders of classes, or with lists that say the class of each clip"
        )
    for split in splits:
        if split not in cache.splits:
            there = f"splits 1 to {len(cache.splits)}" if len(cache.splits) > 1 else "split 1 alone"
            raise SettingError(f"{option} {split}: {cache.path} has {there}")


def known_sources(run: Run, cache: FeatureCache) -> dict[str, str]:
    """The source of each clip that the run used, by key: as the cache says now, where it knows the clip, else as the
    run does.
    """
    given = {**cache.manifest.sources, **dict(zip(cache.clip_keys, cache.sources, strict=True))}
    return {key: given.get(key, source) for key, source in run.sources.items()}


def missing_clips(cache: FeatureCache, split: int) -> dict[str, str]:
    """Clips of the test list that the cache lacks, with the reason; they count neither as right nor as wrong."""
    failed = {failure.key: f"failed: {failure.reason}" for failure in cache.manifest.failures}
    keys = [key for key, subsets in cache.missing_subsets.items() if subsets[split - 1] == TEST]
    return {key: failed.get(key, "not on disk when the cache was made") for key in sorted(keys)}


def listed_clips(run: Run, cache: FeatureCache, split: int) -> tuple[np.ndarray, np.ndarray]:
    """The clips of the test list of `split` that the cache holds, int64 (n), and the labels of all its clips, as
    `labels_for`. Raises HarCacheError where there are none, or one is of a class that the run does not know.
    """
    check_splits(cache, split)
    test, labels = np.flatnonzero(cache.subsets[:, split - 1] == TEST), labels_for(run, cache)
    if not len(test):
        raise HarCacheError(f"{cache.path} holds no clip of the test list of split {split}; choose another --split")
    unknown = sorted({cache.classes[cache.labels[i]] for i in test if labels[i] < 0})
    if unknown:
        raise HarCacheError(
            f"{run.path} knows nothing of {len(unknown)} classes of the test list ({', '.join(unknown[:3])}): "
            "they came into the cache later; train again"
        )
    return test, labels
