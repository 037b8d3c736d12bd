"""`har-cache evaluate`."""

from dataclasses import replace

from har_cache.settings.evaluation import EvaluateSettings
from har_cache.texts import printable_values as shown

from .console import Bar, echo, print_json
from .options import Json


def evaluate(settings: EvaluateSettings, as_json: Json = False) -> None:
    """Score a run on a test list, and say how much of that list the model knew before."""
    from har_cache.evaluation.averages import summarise
    from har_cache.evaluation.evaluate import evaluate as score
    from har_cache.evaluation.summary import text

    evaluations = score(settings, Bar())
    if not as_json:
        echo(text([replace(e, folder=shown(e.folder), metrics=shown(e.metrics)) for e in evaluations]))
        return
    found = [evaluation.metrics for evaluation in evaluations]
    print_json({**summarise(evaluations), "runs": found} if len(found) > 1 else found[0])
