"""`har-cache evaluate`."""

import json
from typing import TYPE_CHECKING, Any

import typer

from har_cache.settings import EvaluateSettings

from .console import Bar
from .options import Json

if TYPE_CHECKING:
    from har_cache.evaluation.evaluate import Evaluation


def evaluate(settings: EvaluateSettings, as_json: Json = False) -> None:
    """Score a run on a test list, and say how much of that list the model knew before."""
    from har_cache.evaluation.evaluate import evaluate as score

    evaluations = score(settings, Bar())
    typer.echo(json.dumps(_content(evaluations), indent=2) if as_json else _text(evaluations))


def _content(evaluations: "list[Evaluation]") -> dict[str, Any]:
    from har_cache.evaluation.evaluate import summarise

    if len(evaluations) == 1:
        return evaluations[0].metrics
    return {**summarise(evaluations), "runs": [evaluation.metrics for evaluation in evaluations]}


def _text(evaluations: "list[Evaluation]") -> str:
    from har_cache.evaluation.evaluate import summarise

    parts = [_one(evaluation) for evaluation in evaluations]
    if len(evaluations) > 1:
        parts.insert(0, _summary(summarise(evaluations)))
    return "\n\n".join(parts)


def _summary(summary: dict[str, Any]) -> str:
    def spread(name: str) -> str:
        figures = summary[name]
        return f"{100 * figures['mean']:.1f}% (standard deviation {100 * figures['std']:.1f})" if figures else "-"

    each = ", ".join(f"{s['trained_on']} on {s['tested_on']}: {100 * s['top1']:.1f}%" for s in summary["splits"])
    lines = [
        f"Top-1, mean over {len(summary['splits'])} splits: {spread('top1')}; {each}",
        f"Clean clips alone: {spread('clean_top1')}; linear classifier on mean embeddings: {spread('linear_on_mean')}; "
        f"chance {100 * summary['chance']:.1f}%",
    ]
    if summary["leaking"]:
        lines.insert(0, f"WARNING: {summary['leaking']} of these models know clips of the list they are scored on")
    return "\n".join(lines)


def _one(evaluation: "Evaluation") -> str:
    from har_cache.evaluation.summary import TAG_TITLES, lines, percent

    metrics = evaluation.metrics
    text = [
        *lines(metrics),
        f"Macro F1 {percent(metrics['macro_f1'])}, mean class accuracy {percent(metrics['mean_class_accuracy'])}, "
        f"loss {metrics['loss']:.3f}",
    ]
    if metrics["confused"]:
        pairs = [f"{p['true']} as {p['predicted']} ({p['clips']})" for p in metrics["confused"][:5]]
        text.append(f"Most confused: {', '.join(pairs)}")
    tags: dict[str, list[str]] = {}
    for row in metrics["tags"]:
        tags.setdefault(row["tag"], []).append(f"{row['value']} {percent(row['top1'])} ({row['clips']})")
    text += [f"By {TAG_TITLES[tag]}: {', '.join(values)}" for tag, values in tags.items()]
    return "\n".join([*text, f"Files: {evaluation.folder}"])
