"""`har-cache train-head`."""

from har_cache.settings.training import TrainHeadSettings

from .console import Bar, print_json, resumable, say
from .options import Json
from .runs import outcome, run_content


def train_head(settings: TrainHeadSettings, as_json: Json = False) -> None:
    """Stage two: a cache -> a bidirectional RNN that tells its classes apart.

    Validation clips are those that the data set sets apart for that, or else held out of the training list by source;
    the test list is not looked at. The weights of the best epoch on them are kept.
    """
    from har_cache.training import train_head as stage

    with resumable(settings.run):
        runs = stage.train_head(settings, Bar())
    if as_json:
        found = [run_content(run.path) for run in runs]
        print_json({"runs": found} if len(found) > 1 else found[0])
    for finished in runs:
        say(outcome(finished))
    say(f"Next: har-cache evaluate {settings.run}")
