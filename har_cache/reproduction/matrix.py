"""Both protocols in one table, and in the sentence that explains it."""

from ..comparison.tables import Table
from ..evaluation.results import Accuracy
from ..evaluation.summary import GROUP_WORDS, percent
from ..sample_data.standin import WEIGHTS
from .protocol import REPORTED_ON, TRAINED_ON, VALIDATED_ON, Protocol, Row

MADE_UP = "The embeddings are made up: these figures show the leak, and say nothing about the data set"


def table(found: Protocol) -> Table:
    """Trained on x tested on, and below it the headline's protocol: of all clips, and of each group."""
    rows = [line for row in (*found.honest, found.headline) for line in _lines(row)]
    return Table(
        title=f"Top-1 in percent, and on how many clips; {found.classes} classes, chance {percent(1 / found.classes)}",
        header=("trained on", *(f"test list {cell.tested_on}" for cell in found.headline.cells), "clips"),
        rows=tuple(rows),
        notes=(sentence(found), *([MADE_UP] if found.weights == WEIGHTS else [])),
    )


def sentence(found: Protocol) -> str:
    """What the headline is made of, and what is left of it."""
    cell = found.leaked
    seen, sibling, clean = cell.seen, cell.sibling, cell.clean
    top1 = cell.all_clips.top1 or 0.0
    points = 100 * (top1 - found.honest_top1)
    rest = f"of the {clean.clips:,} others it has {percent(clean.top1)} right" if clean.clips else "there are no others"
    headline = (
        f"The headline, {percent(top1)} (trained on split {TRAINED_ON}, its epoch picked on the test list of split "
        f"{VALIDATED_ON}, tested on that of split {REPORTED_ON}), is made of {seen.clips:,} clips of "
        f"{cell.all_clips.clips:,} that the model was trained or validated on{_right(seen)} and {sibling.clips:,} "
        f"more from films that it knows in that class{_right(sibling)}; {rest}."
    )
    honest = (
        "With films held out, and each split tested on its own list, the same model has "
        f"{percent(found.honest_top1)} right (mean of {len(found.honest)} splits): "
        + (f"{points:.1f} points of the headline come from the protocol." if points > 0 else "here, no less.")
    )
    return f"{headline} {honest}"


def _right(accuracy: Accuracy) -> str:
    return f" ({percent(accuracy.top1)} right)" if accuracy.clips else ""


def _lines(row: Row) -> list[tuple[str, ...]]:
    name = f"split {row.trained_on}, validated on test list {row.validated_on}" if row.validated_on else ""
    groups = [[cell.seen, cell.sibling, cell.clean, cell.other_class] for cell in row.cells]
    by_group = zip(GROUP_WORDS.items(), zip(*groups, strict=True), strict=True)
    return [
        (name or f"split {row.trained_on}", *(_cell(cell.all_clips) for cell in row.cells), "all"),
        *(("", *map(_cell, found), f"{group}: {meaning}") for (group, meaning), found in by_group),
    ]


def _cell(accuracy: Accuracy | None) -> str:
    return f"{100 * accuracy.top1:.1f} of {accuracy.clips:,}" if accuracy and accuracy.top1 is not None else "-"
