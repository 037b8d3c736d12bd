"""Runs, in words and as JSON: what they were trained on and how, what came of it, what they were tested on."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from har_cache.errors import HarCacheError, RunError
from har_cache.storage.parsing import to_json_types

from .console import plural

if TYPE_CHECKING:
    from har_cache.model.config import RunConfig
    from har_cache.model.run import Run


def outcome(run: "Run") -> str:
    """What a training came to, in words."""
    return f"{run.path}: {_outcome(run.config)}"


def run_content(path: Path) -> dict[str, Any]:
    """A run as JSON types: its config.json, the number of clips by subset, and each evaluation's first figures. Raises
    HarCacheError where it is damaged.
    """
    from har_cache.model.run import read_clips

    config = _config(path)
    found = {"run": str(path), "finished": config.finished, "epochs_done": _epochs_done(path, config)}
    clips = dict(sorted(Counter(read_clips(path, config).values()).items()))
    kept = {name: value for name, value in config.to_dict().items() if name != "files"}
    return {**found, **kept, "clips": clips, "evaluations": _evaluations(path)}


def run_lines(path: Path) -> list[str]:
    """The same for people. Raises HarCacheError where it is damaged."""
    content, config = run_content(path), _config(path)
    recipe, head, training = config.recipe, config.head, config.training
    stage = "fine-tuned end to end" if config.started_from else "a head"
    encoder = f"{recipe.model}, weights {recipe.weights}, projection {recipe.projection}"
    rows = [
        ("cache", f"{config.cache} (fingerprint {config.fingerprint[:12]})"),
        ("encoder", f"{encoder}, views {','.join(recipe.views)}"),
        ("clips", ", ".join(f"{count} {subset}" for subset, count in content["clips"].items())),
        ("classes", str(len(config.classes))),
        ("head", f"{head.cell}, hidden {head.hidden}, layers {head.layers}, width {head.width}"),
        (
            "training",
            f"{plural(training.epochs, 'epoch')}, {plural(training.frames, 'frame')} per clip, batch size "
            f"{training.batch_size}, learning rate {training.lr:g}, on {config.device or 'a device that is not known'}",
        ),
        *([("started from", config.started_from.run)] if config.started_from else []),
        ("outcome", _outcome(config) if config.finished else f"{content['epochs_done']} epochs done; not finished"),
        *[("evaluated", _evaluated(found)) for found in content["evaluations"] or [None]],
        ("made with", ", ".join(f"{name} {version}" for name, version in config.versions.items())),
    ]
    first = f"{path}: {stage} trained on split {config.split}, seed {config.training.seed}"
    return [first, *(f"  {name:<14} {value}" for name, value in rows)]


def _config(path: Path) -> "RunConfig":
    from har_cache.model.config import read_config

    if config := read_config(path):
        return config
    raise RunError(f"{path}: is no run")


def _outcome(config: "RunConfig") -> str:
    best, epochs, folds = config.best, config.training.epochs, config.out_of_fold
    if config.choice:
        from har_cache.finetuning.choice import in_words

        return in_words(config.choice)
    if folds:
        return (
            f"mean of {config.heads} heads; out of fold {folds.accuracy:.1%} of {folds.clips:,} clips "
            f"right, temperature {folds.temperature:.2f}"
        )
    assert best is not None  # of a finished run
    return f"best epoch {best.epoch} of {epochs}, validation accuracy {best.val_accuracy:.1%}"


def _epochs_done(path: Path, config: "RunConfig") -> int | None:
    """None of several heads, each of which has its own."""
    from har_cache.model.run import METRICS
    from har_cache.storage.files import read_csv

    if config.heads:
        return None
    return max(0, len(read_csv(path / METRICS)) - 1) if (path / METRICS).is_file() else 0


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """Of each test list: its split, clips and accuracy; or why they cannot be read."""
    from har_cache.evaluation.results import METRICS, read_evaluation
    from har_cache.model.run import EVALUATIONS

    found = []
    for file in sorted((path / EVALUATIONS).glob(f"split*/{METRICS}")):
        try:
            metrics = read_evaluation(file.parent).metrics
        except HarCacheError as error:
            found.append({"folder": str(file.parent), "problem": str(error)})
            continue
        figures = {name: to_json_types(getattr(metrics, name)) for name in ("split", "clips", "top1", "leakage")}
        found.append({"folder": str(file.parent), **figures})
    return found


def _evaluated(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not yet: har-cache evaluate does it"
    if "problem" in found:
        return found["problem"]
    known = found["clips"] - found["leakage"]["clean"]["clips"]
    leaks = f", {known} of which it knew, or their source" if known else ""
    return f"split {found['split']}: top-1 {found['top1']:.1%} of {found['clips']:,} clips{leaks}"
