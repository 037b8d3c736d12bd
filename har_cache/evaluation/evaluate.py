"""A trained run on a test list: honest figures, in RUN/evaluate/split<k>/."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.reader import FeatureCache
from ..data.index import TEST, read_index
from ..data.leakage import CLEAN, SEEN, SIBLING, groups
from ..errors import HarCacheError
from ..files import make_directory, write_file
from ..model.config import FINETUNED
from ..model.load import labels_for, load_network, made_with, open_cache
from ..model.run import Run, split_runs
from ..plots import plot_confusion
from ..progress import Progress
from ..settings import EvaluateSettings
from ..system import default_workers, resolve_device
from ..training.batches import Sequences, predict
from ..training.raw_batches import Footage
from ..workers.prefetch import FramePrefetcher as Picker
from .gain import compare
from .inference import OFFSETS, predict_raw
from .linear_probe import linear_on_mean, mean_embeddings
from .metrics import accuracy
from .scored import Scored

SCHEMA = "har-evaluation/1"
METRICS, PREDICTIONS, PER_CLASS, CONFUSION = "metrics.json", "predictions.csv", "per_class.csv", "confusion.png"


@dataclass(frozen=True)
class Evaluation:
    """What one model makes of one test list: the folder with the files, and the content of its metrics.json."""

    folder: Path
    metrics: dict[str, Any]


def evaluate(settings: EvaluateSettings, progress: Progress = Progress()) -> list[Evaluation]:
    """Score a run on the test list of `split`, or else on that of the split it was trained on, and write the files.

    A run of the three splits gives three evaluations, and `evaluate/summary.json` beside them. A fine-tuned run is
    scored on raw frames, of the data set that it was tuned on or of `data`; or on a `cache` that was extracted with its
    own encoder. Raises HarCacheError: no run, no cache or another one than the run's, a test list without a clip in
    the cache.
    """
    settings.check()
    split = settings.split
    runs = [Run.open(path) for path in split_runs(settings.run).values()]
    features = open_cache(runs, settings.cache)
    sequences = Sequences.from_cache(features, resolve_device(settings.device))
    means = mean_embeddings(sequences)
    raw = _Raw(settings.data, settings.workers or default_workers(), progress)
    evaluations = [_evaluate(run, split or run.config.split, features, sequences, means, raw) for run in runs]
    if len(evaluations) > 1:
        folder = settings.run / "evaluate"
        make_directory(folder)
        name = f"summary-split{split}.json" if split else "summary.json"
        write_file(folder / name, _json(summarise(evaluations)))
    return evaluations


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Mean and sample standard deviation over several evaluations of what each of them measured."""

    def spread(values: list[float | None]) -> dict[str, float] | None:
        known = [value for value in values if value is not None]
        return {"mean": statistics.mean(known), "std": statistics.stdev(known)} if len(known) > 1 else None

    all_metrics = [evaluation.metrics for evaluation in evaluations]
    names = ("top1", "top5", "loss", "macro_f1", "mean_class_accuracy")
    return {
        "schema": SCHEMA,
        "splits": [{"trained_on": m["trained_on"], "tested_on": m["split"], "top1": m["top1"]} for m in all_metrics],
        "chance": all_metrics[0]["chance"],
        **{name: spread([m[name] for m in all_metrics]) for name in names},
        "leaking": sum(any(m["leakage"][group]["clips"] for group in (SEEN, SIBLING)) for m in all_metrics),
        "clean_top1": spread([m["leakage"][CLEAN]["top1"] for m in all_metrics]),
        "linear_on_mean": spread([(m["linear_on_mean"] or {}).get("top1") for m in all_metrics]),
    }


@dataclass(frozen=True)
class _Raw:
    """Where raw clips are, if not where they were, and how many processes decode them."""

    data: Path | None
    workers: int
    progress: Progress


def _evaluate(
    run: Run, split: int, cache: FeatureCache, sequences: Sequences, means: np.ndarray, raw: _Raw
) -> Evaluation:
    test = np.flatnonzero(cache.subsets[:, split - 1] == TEST)
    if not len(test):
        raise HarCacheError(f"{cache.path} holds no clip of the test list of split {split}; choose another --split")
    labels = _labels(run, cache, test)
    failed: dict[str, str] = {}
    if run.config.stage == FINETUNED and not made_with(cache, run):
        test, probabilities, failed = _from_frames(run, cache, labels, test, sequences.device.type, raw)
    else:
        probabilities = predict(run.load_head(), sequences, test, run.config.training.frames)
    if not np.isfinite(probabilities).all():
        raise HarCacheError(f"{run.path}: the model's probabilities are not finite; train it again")
    keys = [cache.keys[i] for i in test]
    scored = Scored(
        classes=run.config.classes,
        keys=keys,
        sources=[cache.sources[i] for i in test],
        frames=cache.frames[test],
        true=labels[test],
        probabilities=probabilities,
        groups=groups(run.clips, keys),
    )
    content = {
        **_about(run, split, cache, len(test)),
        **scored.figures(),
        "linear_on_mean": _baseline(run, cache, means, labels, test),
        "missing": {**_missing(cache, split), **{key: f"failed: {reason}" for key, reason in failed.items()}},
    }
    if run.config.stage == FINETUNED:
        right = probabilities.argmax(1) == labels[test]
        content["stage_two"] = compare(run, keys, right, cache, sequences)
    folder = run.path / "evaluate" / f"split{split}"
    _write(folder, content, scored)
    return Evaluation(folder, content)


def _from_frames(
    run: Run, cache: FeatureCache, labels: np.ndarray, test: np.ndarray, device: str, raw: _Raw
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """The clips that decode, their probabilities by the whole network, and the others with the reason."""
    index = read_index(raw.data or Path(run.config.data or ""))
    frames = run.config.training.frames
    with Picker(OFFSETS * frames, raw.workers, 2 * raw.workers) as picker:
        footage = Footage.of_cache(cache, labels, index, picker, device, lambda *_: None)
        with raw.progress.task("Evaluating raw frames", "clip", len(test)):
            found = predict_raw(load_network(run), footage, test, frames, len(cache.views), raw.progress)
    if not found:
        key, reason = next(iter(footage.failures.items()))
        raise HarCacheError(
            f"{index.root}: no clip of the test list can be decoded; {key}: {reason}; choose its --data"
        )
    return np.array(list(found)), np.stack(list(found.values())), footage.failures


def _labels(run: Run, cache: FeatureCache, test: np.ndarray) -> np.ndarray:
    """As `labels_for`; none of the tested clips has another class."""
    labels = labels_for(run, cache)
    unknown = sorted({cache.classes[cache.labels[i]] for i in test if labels[i] < 0})
    if unknown:
        raise HarCacheError(
            f"{run.path} knows nothing of {len(unknown)} classes of the test list ({', '.join(unknown[:3])}): "
            "they came into the cache later; train again"
        )
    return labels


def _about(run: Run, split: int, cache: FeatureCache, clips: int) -> dict[str, Any]:
    subsets = list(run.clips.values())
    return {
        "schema": SCHEMA,
        "stage": run.config.stage,
        "split": split,
        "trained_on": run.config.split,
        "splits_from": cache.manifest.splits.from_,
        "train_clips": subsets.count("train"),
        "val_clips": subsets.count("val"),
        "fingerprint": cache.fingerprint,
        "model_sha256": run.model_sha256,
        "projection_fit": cache.recipe.projection_fit,
        "projection_saw_test_clips": "test clips included" in cache.recipe.projection_fit,
        "clips": clips,
        "classes": len(run.config.classes),
        "chance": 1 / len(run.config.classes),
    }


def _baseline(
    run: Run, cache: FeatureCache, means: np.ndarray, labels: np.ndarray, test: np.ndarray
) -> dict[str, Any] | None:
    subset = [run.clips.get(key) for key in cache.keys]
    train, val = (np.array([i for i, name in enumerate(subset) if name == part], int) for part in ("train", "val"))
    outcome = linear_on_mean(means, labels, train, val, test)
    if outcome is None:
        return None
    correct = outcome[0] == labels[test]
    figures = accuracy(correct, [cache.sources[i] for i in test])
    return {"top1": figures["top1"], "interval": figures["interval"], "C": outcome[1]}


def _missing(cache: FeatureCache, split: int) -> dict[str, str]:
    """Clips of the test list that the cache lacks, with the reason; they count neither as right nor as wrong."""
    failed = {failure.key: f"failed: {failure.reason}" for failure in cache.manifest.failures}
    keys = [key for key, subsets in cache.missing_subsets.items() if subsets[split - 1] == TEST]
    return {key: failed.get(key, "not on disk when the cache was made") for key in sorted(keys)}


def _write(folder: Path, content: Mapping[str, Any], scored: Scored) -> None:
    make_directory(folder)
    write_file(folder / PREDICTIONS, _csv(scored.predictions()))
    write_file(folder / PER_CLASS, _csv(scored.per_class()))
    title = f"Test list of split {content['split']}: {content['clips']:,} clips, {content['top1']:.1%} right"
    plot_confusion(scored.confusions, scored.classes, folder / CONFUSION, title)
    write_file(folder / METRICS, _json(content))


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
