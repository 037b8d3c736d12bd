"""The sections of a run's page, each from the files of a run or of an evaluation."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.leakage import GROUPS
from ..errors import ClipError
from ..model.run import Run
from . import summary as headline
from .evaluate import CONFUSION, PER_CLASS, PREDICTIONS, Evaluation, summarise
from .filmstrip import filmstrip
from .page import Html, bars, card, definitions, element, picture, table
from .summary import TAG_TITLES, percent

_MISTAKES = 12
_MANY_CLASSES = 20
_LIST_COLUMNS = {
    "list": "test list",
    "clips": "clips",
    "top1": "top-1",
    "seen": "seen",
    "sibling": "siblings",
    "clean": "clean",
    "clean_top1": "top-1, clean alone",
    "linear": "linear on mean",
}


def warnings(metrics: Mapping[str, Any]) -> Html:
    """What cannot be missed, where there is cause."""
    lines = [headline.leak_warning(metrics), *headline.notes(metrics)]
    shown = [element("p", line, class_="warning", role="note") for line in lines if line and "WARNING" in line]
    return Html("".join(shown))


def lead(metrics: Mapping[str, Any]) -> Html:
    """The figure, what it has to be held against, and how it was come by."""
    linear = metrics["linear_on_mean"] or {"top1": None, "interval": None}
    groups = metrics["leakage"]
    leaking = [
        (f"on {groups[group]['clips']:,} {words}", groups[group]["top1"], groups[group]["interval"], False)
        for group, words in zip(GROUPS, ("seen clips", "siblings", "clean clips"), strict=True)
        if groups[group]["clips"] and groups["clean"]["clips"] < metrics["clips"]
    ]
    compared = bars(
        [
            ("this model", metrics["top1"], metrics["interval"], False),
            *leaking,
            ("linear on mean embedding", linear["top1"], linear["interval"], True),
            ("chance", metrics["chance"], None, True),
        ]
    )
    interval = metrics["interval"]
    between = f", 95% interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    number = element(
        "div",
        element("div", percent(metrics["top1"]), class_="figure"),
        element("div", f"top-1{between}", class_="soft"),
        *([element("div", "not a test accuracy", class_="soft")] if leaking else []),
        element("div", f"test list of split {metrics['split']}, {metrics['clips']:,} clips", class_="soft"),
    )
    more = (
        f"Top-5 {percent(metrics['top5'])}, macro F1 {percent(metrics['macro_f1'])}, mean class accuracy "
        f"{percent(metrics['mean_class_accuracy'])}, loss {metrics['loss']:.3f}"
    )
    notes = [note for note in headline.notes(metrics) if "WARNING" not in note]
    gain = filter(None, [headline.gain(metrics)])
    lines = [headline.leakage(metrics), headline.protocol(metrics), *gain, *notes, more]
    facts = element("ul", *(element("li", line) for line in lines), class_="facts")
    kind = "lead leaking" if leaking else "lead"
    return element("section", element("div", number, compared, class_=kind), facts, class_="card")


def overview(evaluations: Sequence[Evaluation]) -> Html:
    """The mean over the splits, and each of them."""
    summary = summarise(evaluations)
    top1 = summary["top1"]
    text = (
        f"Top-1, mean over {len(evaluations)} splits; standard deviation {100 * top1['std']:.1f} points; "
        f"chance {percent(summary['chance'])}"
    )
    content = table("Each model on the test list of its own split", _LIST_COLUMNS, map(_list_row, evaluations))
    return element(
        "section", element("div", percent(top1["mean"]), class_="figure"), element("p", text), content, class_="card"
    )


def lists(evaluations: Sequence[Evaluation]) -> Html:
    """The same model on several test lists, side by side."""
    return card(
        "The same model on other test lists",
        table("Only clean clips make a test", _LIST_COLUMNS, map(_list_row, evaluations)),
        note="Seen: trained or validated on. Siblings: cut from the same source as such a clip. Clean: neither.",
    )


def curves(run: Run) -> Html:
    """The training curves, where training has drawn them."""
    if not (run.path / "curves.png").exists():
        return card("Training", element("p", f"No curves.png in {run.path}."))
    best = run.config.best
    alt = f"Loss and accuracy per epoch, in training and validation; best epoch {best.epoch if best else 'unknown'}"
    return card("Training", picture(run.path / "curves.png", alt))


def confusion(folder: Path, metrics: Mapping[str, Any]) -> Html:
    """The confusion matrix."""
    count = metrics["classes"]
    alt = f"Confusion matrix of {count} classes; the tables below give the same in numbers"
    return card(
        "Confusion matrix",
        picture(folder / CONFUSION, alt, None if count > _MANY_CLASSES else 760),
        note="Rows are true classes, columns what the model took them for, in percent of the row.",
    )


def classes(folder: Path) -> Html:
    """Precision, recall and F1 of each class."""
    rows = [
        {**row, "support": int(row["support"]), **{key: _number(row[key]) for key in ("precision", "recall", "f1")}}
        for row in _read_csv(folder / PER_CLASS)
    ]
    columns = {
        "class": "class",
        "support": "clips",
        "recall": "recall",
        "precision": "precision",
        "f1": "F1",
        "mostly_taken_for": "mostly taken for",
    }
    return card("Class by class", table("A click on a column sorts by it", columns, rows, tall=True))


def tags_and_pairs(metrics: Mapping[str, Any]) -> Html:
    """Accuracy by HMDB51's marks, where the clips carry them, beside the pairs most often confused."""
    tags = [{**row, "tag": f"{TAG_TITLES[row['tag']]}: {row['value']}"} for row in metrics["tags"]]
    pairs = [{**row, "pair": f"{row['true']} as {row['predicted']}"} for row in metrics["confused"]]
    cards = []
    if tags:
        columns = {"tag": "mark", "clips": "clips", "top1": "top-1"}
        cards.append(card("By what can be seen", table("Marks in the file names", columns, tags, tall=True)))
    if pairs:
        columns = {"pair": "true as predicted", "clips": "clips", "share": "of the true class"}
        cards.append(card("Most often confused", table("Pairs of classes", columns, pairs)))
    return element("div", *cards, class_="columns" if len(cards) > 1 else "")


def mistakes(folder: Path, videos: Mapping[str, Path] | None) -> Html:
    """The wrong predictions that the model was surest of; with pictures where `videos` has the clip."""
    wrong = [row for row in _read_csv(folder / PREDICTIONS) if row["true"] != row["predicted"]]
    surest = sorted(wrong, key=lambda row: (-float(row["probability"]), row["key"]))[:_MISTAKES]
    if not surest:
        return card("Surest mistakes", element("p", "None: every clip is right."))
    note = f"The {len(surest)} of {len(wrong):,} wrong predictions with the highest probability. "
    note += "" if videos else "To see the clips: har-cache report RUN --data DIR"
    return card(
        "Surest mistakes", element("div", *(_mistake(row, videos) for row in surest), class_="mistakes"), note=note
    )


def settings(run: Run) -> Html:
    """How the run was made, to the last setting."""
    known = {key: value for key, value in run.config.to_dict().items() if key != "classes"}
    return card("Settings", definitions(_flat(known)))


def _list_row(evaluation: Evaluation) -> dict[str, Any]:
    metrics = evaluation.metrics
    groups = metrics["leakage"]
    return {
        "list": f"split {metrics['split']} (trained on {metrics['trained_on']})",
        "clips": metrics["clips"],
        "top1": metrics["top1"],
        **{group: groups[group]["clips"] for group in GROUPS},
        "clean_top1": groups["clean"]["top1"],
        "linear": (metrics["linear_on_mean"] or {}).get("top1"),
    }


def _mistake(row: Mapping[str, str], videos: Mapping[str, Path] | None) -> Html:
    text = [
        element("p", "predicted ", element("strong", row["predicted"]), f", {percent(float(row['probability']))} sure"),
        element("p", "true ", element("strong", row["true"]), " ", element("span", row["subset"], class_="tag")),
        element("p", row["key"].split("/", 1)[1], class_="soft small"),
    ]
    return element("article", *_strip(row, videos), element("div", *text), class_="mistake")


def _strip(row: Mapping[str, str], videos: Mapping[str, Path] | None) -> list[Html]:
    if videos is None:
        return []
    if row["key"] not in videos:
        return [element("p", "Not in this data set", class_="soft small none")]
    try:
        pictures = filmstrip(videos[row["key"]], int(row["frames"]))
    except ClipError as error:
        return [element("p", f"Cannot be decoded: {error}", class_="soft small none")]
    frames = [
        element("img", src=uri, alt=f"{row['true']}, picture {i} of {len(pictures)}")
        for i, uri in enumerate(pictures, start=1)
    ]
    return [element("div", *frames, class_="strip")]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        flat.update(_flat(value, f"{name}: ") if isinstance(value, Mapping) else {name: value})
    return flat


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | None:
    return float(text) if text else None
