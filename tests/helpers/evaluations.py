"""Evaluations written by hand: what a run, and its linear probes, have right."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from har_cache.evaluation.tables import LINEAR_HEADER, PREDICTIONS_HEADER, ClipPrediction
from har_cache.storage.files import to_csv

from ..evaluation.test_results import METRICS
from .sealed import write_sealed


def write_evaluation(
    run: Path,
    keys: Sequence[str],
    wrong: Collection[str] = (),
    *,
    split: int = 1,
    linear_wrong: Collection[str] | None = (),
    known: Collection[str] = (),
    model_sha256: str = "0" * 64,
    splits_from: str = "lists",
) -> Path:
    """Of the run in a directory, on these clips; without linear.csv where `linear_wrong` is None. Gives its folder."""
    folder = run / "evaluate" / f"split{split}"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = replace(METRICS, split=split, model_sha256=model_sha256, splits_from=splits_from)
    write_sealed(folder / "metrics.json", metrics.to_dict())
    rows = [
        ClipPrediction(key, name, "another" if key in wrong else name, 0.5, name, _subset(key, known), 30)
        for key in keys
        for name in [key.partition("/")[0]]
    ]
    (folder / "predictions.csv").write_bytes(to_csv(PREDICTIONS_HEADER, [row.row() for row in rows]))
    if linear_wrong is not None:
        found = ["another" if row.key in linear_wrong else row.true for row in rows]
        lines = [(row.key, name, row.true) for row, name in zip(rows, found, strict=True)]
        (folder / "linear.csv").write_bytes(to_csv(LINEAR_HEADER, lines))
    return folder


def _subset(key: str, known: Collection[str]) -> str:
    return "seen" if key in known else "clean"
