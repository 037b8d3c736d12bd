"""`har-cache evaluate`."""

from dataclasses import replace

import typer

from har_cache.settings.evaluation import EvaluateSettings
from har_cache.texts import printable_values as shown

from .console import SOME_FAILED, Bar, echo, plural, print_json, say
from .options import AllowFailed, Json


def evaluate(settings: EvaluateSettings, allow_failed: AllowFailed = False, as_json: Json = False) -> None:
    """Score a run on a test list, and say how much of that list the model knew before.

    Exit code 3: some clips do not decode, where raw frames are needed; all others are scored.
    """
    from har_cache.evaluation.averages import summarise
    from har_cache.evaluation.evaluate import evaluate as score
    from har_cache.evaluation.summary import text

    evaluations = score(settings, Bar())
    found = [evaluation.metrics for evaluation in evaluations]
    if as_json:
        print_json({**summarise(evaluations), "runs": found} if len(found) > 1 else found[0])
    else:
        echo(text([replace(e, folder=shown(e.folder), metrics=shown(e.metrics)) for e in evaluations]))
    if failed := sum(len(evaluation.failures) for evaluation in evaluations):
        say(f"{plural(failed, 'clip')} could not be decoded, and not scored (named above)")
        if not allow_failed:
            raise typer.Exit(SOME_FAILED)
