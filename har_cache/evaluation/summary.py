"""An evaluation in a few lines that cannot be misread: what was measured, on what, and what the model knew before."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.leakage import GROUPS
from ..model.config import FINETUNED
from ..statistics.intervals import LEAST_FILMS, Interval
from .averages import summarise
from .results import SCORED, Accuracy, Evaluation, Metrics, NotCompared

CONFOUNDED = (
    "A tag goes with the class as well (some classes are filmed from the front, others not): what differs between its "
    "values may be the classes"
)
GROUP_WORDS = {  # of what a model knew of a clip before
    "seen": "it was trained or validated on the clip itself",
    "sibling": "on another clip of its film and class",
    "clean": "on neither",
    "of a known film": "of the clean ones: on another class of its film",
}
TAG_TITLES = {
    "body": "visible body",
    "camera": "camera motion",
    "viewpoint": "viewpoint",
    "quality": "video quality",
    "people": "people",
}


def text(evaluations: Sequence[Evaluation]) -> str:
    """All evaluations, each with where its files are; first the mean of several."""
    parts = [_evaluation(evaluation) for evaluation in evaluations]
    if len(evaluations) > 1:
        parts.insert(0, _over_splits(summarise(evaluations)))
    return "\n\n".join(parts)


def lines(metrics: Metrics) -> list[str]:
    """Warning (if there is cause), headline, protocol, leakage, comparisons and notes."""
    parts = (
        leak_warning,
        headline,
        protocol,
        leakage,
        comparison,
        other_class,
        gain,
        missing_clips,
        sources_warning,
        earlier_intervals,
        projection_warning,
    )
    return [line for part in parts if (line := part(metrics))]


def headline(metrics: Metrics) -> str:
    """Top-1 and top-5, on which clips."""
    top5 = f"; top-5 {percent(metrics.top5)}" if metrics.has_top5 else ""
    films = f" and {metrics.films:,} films" if metrics.films is not None else ""
    return (
        f"Top-1 {percent(metrics.top1)}{_between(metrics.interval)} on the test list of split "
        f"{metrics.split}: {metrics.clips:,} clips of {metrics.classes} classes{films}{top5}"
    )


def protocol(metrics: Metrics) -> str:
    """The protocol: training clips, and the clips that decided which weights were kept."""
    lists = f"splits: {'the lists of the data set' if metrics.splits_from == 'lists' else 'drawn by source'}"
    what = "what was kept decided" if metrics.stage == FINETUNED else "best epoch picked"
    how = "which the data set sets apart for that" if metrics.val_set_apart else "held out by source"
    picked = f"; {what} on {metrics.val_clips:,} more, {how}" if metrics.val_clips else ""
    if metrics.stage == SCORED:
        validated = f", and validated on {metrics.val_clips:,} more" if metrics.val_clips else ""
        return f"Protocol: trained on {metrics.train_clips:,} clips{validated}, as is said of it; {lists}"
    if (folds := metrics.out_of_fold) and metrics.heads:
        picked = (
            f" by {metrics.heads} heads, each of which validates on the films that it has not seen: {folds.clips:,} "
            f"clips, {percent(folds.accuracy)} right; the model is their mean"
        )
    if metrics.validated_on:
        picked = f"; best epoch picked on the test list of split {metrics.validated_on}, nothing held out"
    return (
        f"Protocol: trained on {metrics.train_clips:,} clips of the training list of split "
        f"{metrics.trained_on}{picked}; {lists}"
    )


def leak_warning(metrics: Metrics) -> str:
    """The line that cannot be missed, where the model knows some of the clips or their sources; else empty."""
    seen, sibling, clean = metrics.leakage.seen, metrics.leakage.sibling, metrics.leakage.clean
    of_all = f"of these {metrics.clips:,} clips"
    parts = []
    if seen.clips:
        parts.append(f"was trained or validated on {seen.clips:,} {of_all} ({percent(seen.share)})")
    if sibling.clips:
        more = "more" if seen.clips else of_all
        parts.append(f"has seen the source of {sibling.clips:,} {more} ({percent(sibling.share)})")
    if not parts:
        return ""
    alone = f"clean clips alone: {percent(clean.top1)}{_between(clean.interval)}" if clean.clips else "no clip is clean"
    return f"WARNING: the model {' and '.join(parts)}: {percent(metrics.top1)} is not a test accuracy; {alone}"


def leakage(metrics: Metrics) -> str:
    """Numbers of clips that are seen, siblings and clean, and the accuracy of each."""
    if not metrics.leakage.leaks:
        return "Leakage: 0 seen, 0 siblings: no clip shares its class's source with training"
    parts = [
        f"{name} {group.clips:,} ({percent(group.share)})" + (f" right {percent(group.top1)}" if group.clips else "")
        for name in GROUPS
        for group in [getattr(metrics.leakage, name)]
    ]
    seen = f" (seen counts the {metrics.val_clips:,} validation clips too)" if metrics.val_clips else ""
    return f"Leakage: {', '.join(parts)}{seen}"


def other_class(metrics: Metrics) -> str:
    """Number of clean clips of a film that the model knows from another class, and their accuracy beside that of the
    other clean ones; empty where there are none, or where they were not counted.
    """
    clean, known = metrics.leakage.clean, metrics.leakage.other_class
    if known is None or known.top1 is None or clean.top1 is None:
        return ""
    other = clean.clips - known.clips
    beside = f"; the other {other:,} right {percent(_of_others(clean, known))}" if other else ""
    return (
        f"Same film in another class: {known.clips:,} of the {clean.clips:,} clean clips are of a film that the model "
        f"was trained or validated on in another class: right {percent(known.top1)}{beside}"
    )


def comparison(metrics: Metrics) -> str:
    """Baselines that the figure has to be held against."""
    mean, both = metrics.linear_on_mean, metrics.linear_on_moments
    shown = f"; linear probe on each clip's mean embedding {percent(mean.top1)}" if mean else ""
    shown += f", on its mean and first moment in time {percent(both.top1)}" if both else ""
    return f"Beside it: chance {percent(metrics.chance)}{shown}"


def gain(metrics: Metrics) -> str:
    """Change by fine-tuning, of a fine-tuned run; else empty."""
    before = metrics.stage_two
    if before is None:
        return ""
    if isinstance(before, NotCompared):
        return f"Not compared with the run of stage two that it came from: {before.unknown}"
    points = 100 * (metrics.top1 - before.top1)
    counts = f"{before.fixed:,} clips put right, {before.broken:,} put wrong"
    said = f"Stage two ({before.run}) on the same clips: {percent(before.top1)}; fine-tuning {points:+.1f} points"
    if before.p is None:
        return f"{said}: {counts}"
    verdict = "more than chance explains" if before.shown else "no difference shown"
    return f"{said}{_between(before.interval)}: {counts} (exact McNemar p = {before.p:.2g}): {verdict}"


def missing_clips(metrics: Metrics) -> str:
    """Clips of the list that were not scored, and why; empty where there are none."""
    missing = metrics.missing
    if not missing:
        return ""
    failed = sum(reason.startswith("failed") for reason in missing.values())
    listed = metrics.clips + len(missing)
    where = "not in the cache" if metrics.fingerprint else "not there, nor predicted"
    return (
        f"Missing: {len(missing):,} of the {listed:,} clips of the test list are {where} "
        f"({failed:,} failed, {len(missing) - failed:,} not on disk), and are not counted: "
        f"{', '.join(list(missing)[:3])}{', ...' if len(missing) > 3 else ''}"
    )


def sources_warning(metrics: Metrics) -> str:
    """That each file is taken for a source of its own, where it is; else empty."""
    if metrics.sources_from is None:
        return ""
    return (
        "WARNING: each file is taken for a source of its own: clips of one film or person may be on both sides, and "
        "intervals be too narrow; say with `har-cache extract --source-pattern` what a clip is of"
    )


def earlier_intervals(metrics: Metrics) -> str:
    """That the intervals are those of an earlier version; else empty."""
    if metrics.films is not None:
        return ""
    return (
        "Intervals are by class and film, as an earlier version had them, and may be too narrow: "
        "run `har-cache evaluate` again"
    )


def projection_warning(metrics: Metrics) -> str:
    """That the projection was fitted on test clips too, where it was; else empty."""
    if not metrics.projection_saw_test_clips:
        return ""
    return (
        "WARNING: the cache's projection was fitted on frames of test clips too (without labels): "
        f"{metrics.projection_fit}"
    )


def percent(share: float | None) -> str:
    """A share of 1 in percent, with one decimal."""
    return "-" if share is None else f"{100 * share:.1f}%"


def interval_text(interval: Interval | None) -> str:
    """The 95% interval of a share, in percent, or why there is none."""
    if interval is None:
        return f"no interval: fewer than {LEAST_FILMS} films"
    return f"95% interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _between(interval: Interval | None) -> str:
    return f" ({interval_text(interval)})"


def _of_others(all_clips: Accuracy, some: Accuracy) -> float:
    """Accuracy on `all_clips` without `some` of them; there are others."""
    right = round((all_clips.top1 or 0) * all_clips.clips) - round((some.top1 or 0) * some.clips)
    return right / (all_clips.clips - some.clips)


def _evaluation(evaluation: Evaluation) -> str:
    return f"{figures(evaluation.metrics)}\nFiles: {evaluation.folder}"


def figures(metrics: Metrics) -> str:
    """All figures, a line each."""
    found = [
        *lines(metrics),
        f"Macro F1 {percent(metrics.macro_f1)}, mean class accuracy {percent(metrics.mean_class_accuracy)}"
        f"{_loss(metrics)}{_calibration(metrics)}",
    ]
    if metrics.confused:
        pairs = [f"{pair.true} as {pair.predicted} ({pair.clips})" for pair in metrics.confused[:5]]
        found.append(f"Most confused: {', '.join(pairs)}")
    tags: dict[str, list[str]] = {}
    for row in metrics.tags:
        tags.setdefault(row.tag, []).append(f"{row.value} {percent(row.top1)} ({row.clips})")
    found += [f"By {TAG_TITLES[tag]}: {', '.join(values)}" for tag, values in tags.items()]
    found += [CONFOUNDED] if tags else []
    return "\n".join(found)


def _loss(metrics: Metrics) -> str:
    return "" if metrics.loss is None else f", loss {metrics.loss:.3f}"


def _calibration(metrics: Metrics) -> str:
    error = metrics.calibration_error
    return "" if error is None else f", expected calibration error {percent(error)}"


def _over_splits(summary: Mapping[str, Any]) -> str:
    def mean(name: str) -> str:
        found = summary[name]
        return f"{percent(found['mean'])} ({', '.join(map(percent, found['each']))})" if found else "-"

    models, clean, seeds = summary["splits"], summary["clean_top1"], summary["seeds"]
    each = ", ".join(
        f"{m['trained_on']} on {m['tested_on']}{', seed ' + str(m['seed']) if seeds else ''}: {percent(m['top1'])}"
        for m in models
    )
    found = [
        f"Top-1, mean over {len(models)} {'models' if seeds else 'splits'}: {percent(summary['top1']['mean'])}"
        f"{_between(summary['top1']['interval'])}; {each}",
        f"Clean clips alone: {mean('clean_top1')}{', ' + interval_text(clean['interval']) if clean else ''}; "
        f"linear probe on mean embeddings: {mean('linear_on_mean')}, on mean and first moment in time: "
        f"{mean('linear_on_moments')}; chance {percent(summary['chance'])}",
    ]
    if seeds:
        found.append(
            f"Over {seeds['each_list']} seeds: standard deviation {100 * seeds['standard_deviation']:.1f} points, that "
            "of training; the interval is that of films"
        )
    if summary["leaking"]:
        found.insert(0, f"WARNING: {summary['leaking']} of these models know clips of the list they are scored on")
    return "\n".join(found)
