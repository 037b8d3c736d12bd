"""A comparison, or an ablation, in tables, and in warnings that stand before them."""

from ..evaluation.summary import percent
from ..statistics.calibration import BINS, TEMPERATURES
from .ablate import Ablation, Calibration
from .compare import Comparison, OnClips
from .tables import Table
from .words import HEADER, cells, interval_note, notes, reference_cells, short_name

_NEAR = 0.01
_LINEAR = "Each run's own linear probes, which are fitted on the same clips as the run"


def tables(comparison: Comparison) -> list[Table]:
    """The runs, and the linear probes of each; where clips leak, again for clean ones alone."""
    found = _tables(comparison, comparison.all_clips, "")
    return found + (_tables(comparison, comparison.clean, "Clean clips alone. ") if comparison.clean else [])


def warnings(comparison: Comparison) -> list[str]:
    """What must be known before the figures: clips that leak, clips left out, linear probes that are not there."""
    on = comparison.all_clips
    found = [_leak(run.name, run.known, run.top1) for run in on.runs if run.known]
    if comparison.leaks and not comparison.clean:
        found.append("WARNING: no clip is clean for all runs: what is compared here is not test accuracies")
    if left_out := sum(clips.left_out for clips in on.lists):
        found.append(f"Left out: {left_out:,} of the clips, which not all of the runs were scored on")
    if comparison.without_linear:
        names = ", ".join(comparison.without_linear)
        found.append(f"No linear probes of {names}: `har-cache evaluate`, run again, keeps what they predict")
    return found


def where(comparison: Comparison, on: OnClips) -> str:
    """On which clips."""
    clips, splits = sum(each.clips for each in on.lists), [str(each.split) for each in on.lists]
    kind = "training list" if comparison.out_of_fold else "test list"
    lists = f"mean over the {kind}s of splits {', '.join(splits)}" if splits[1:] else f"{kind} of split {splits[0]}"
    lists += ", out of fold" if comparison.out_of_fold else ""
    return f"{lists}, {clips:,} clips of {comparison.classes} classes and {on.films:,} films"


def _leak(name: str, known: int, top1: float) -> str:
    return (
        f"WARNING: {name} was trained or validated on {known:,} of these clips, or on others of their source: "
        f"{percent(top1)} is not a test accuracy"
    )


def _tables(comparison: Comparison, on: OnClips, group: str) -> list[Table]:
    title, found = where(comparison, on), []
    if on.differences:
        first = on.runs[0]
        rows = [(first.name, *reference_cells(first.top1)), *((each.name, *cells(each)) for each in on.differences)]
        found.append(Table(f"{group}Runs compared: {title}", ("run", *HEADER), tuple(rows), notes(on.differences)))
    if on.linear:
        rows = []
        said = (interval_note(on.linear),) if found else notes(on.linear)
        for run in on.runs:
            if own := [each for each in on.linear if each.reference == run.name]:
                rows += [
                    (run.name, *reference_cells(run.top1)),
                    *((f"  {short_name(each)}", *cells(each)) for each in own),
                ]
        found.append(Table(f"{group}{_LINEAR}: {title}", ("run", *HEADER), tuple(rows), said))
    return found


def ablation_tables(ablation: Ablation) -> list[Table]:
    """What is left when something is taken away; and whether the probabilities are as high as the accuracy is."""
    rows = [("as it is", *reference_cells(ablation.top1)), *((each.name, *cells(each)) for each in ablation.variants)]
    title = (
        f"{ablation.run}: test list of split {ablation.split}, {ablation.clips:,} clips of {ablation.classes} classes "
        f"and {ablation.films:,} films; {ablation.frames} frames, mean over {ablation.ways} ways; chance "
        f"{percent(ablation.chance)}"
    )
    said = notes(ablation.variants)
    if ablation.known:
        said = (_leak("the model", ablation.known, ablation.top1), *said)
    found = [Table(title, ("", *HEADER), tuple(rows), said)]
    return found + ([_calibration(ablation.calibration)] if ablation.calibration else [])


def _calibration(calibration: Calibration) -> Table:
    without = ("without a temperature", f"{calibration.loss:.3f}", percent(calibration.error), "")
    bound = any(abs(calibration.temperature / end - 1) < _NEAR for end in TEMPERATURES)
    at = (
        f"at temperature {calibration.temperature:.2f}",
        f"{calibration.loss_at_temperature:.3f}",
        percent(calibration.error_at_temperature),
        f"fitted on {calibration.val_clips:,} validation clips" + (", where it meets its bound" if bound else ""),
    )
    note = (
        f"Calibration error: between probability and accuracy, on average over clips, in {BINS} bins of probability; "
        "few clips make it larger. A temperature below 1: the model is not sure enough; it changes no prediction"
    )
    return Table("Probabilities of the test clips", ("", "loss", "calibration error", ""), (without, at), (note,))
