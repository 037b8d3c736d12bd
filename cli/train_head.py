"""`har-cache train-head`."""

from typing import TYPE_CHECKING

from har_cache.settings.training import TrainHeadSettings

from .console import Bar, resumable, say

if TYPE_CHECKING:
    from har_cache.model.run import Run


def train_head(settings: TrainHeadSettings) -> None:
    """Stage two: a cache -> a bidirectional RNN that tells its classes apart.

    Validation clips are those that the data set sets apart for that, or else held out of the training list by source;
    the test list is not looked at. The weights of the best epoch on them are kept.
    """
    from har_cache.training import train_head as stage

    with resumable(settings.run):
        runs = stage.train_head(settings, Bar())
    for finished in runs:
        say(best_epoch(finished))
    say(f"Next: har-cache evaluate {settings.run}")


def best_epoch(run: "Run") -> str:
    """Outcome of a training, in words."""
    best, epochs, folds = run.config.best, run.config.training.epochs, run.config.out_of_fold
    if folds:
        return (
            f"{run.path}: mean of {run.config.heads} heads; out of fold {folds.accuracy:.1%} of {folds.clips:,} clips "
            f"right, temperature {folds.temperature:.2f}"
        )
    assert best is not None  # of a finished run
    return f"{run.path}: best epoch {best.epoch} of {epochs}, validation accuracy {best.val_accuracy:.1%}"
