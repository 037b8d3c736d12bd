"""`har-cache score`."""

from har_cache.settings.evaluation import ScoreSettings
from har_cache.texts import printable_values as shown

from .console import Bar, echo, print_json
from .options import Json


def score(settings: ScoreSettings, as_json: Json = False) -> None:
    """Score predictions of any model as `evaluate` scores a run: how much of the test list it knew before, the accuracy
    on the rest, intervals over films, classes.
    """
    from har_cache.evaluation.summary import figures
    from har_cache.scoring.score import score as score_predictions

    found = score_predictions(settings, Bar())
    if as_json:
        print_json(found.metrics)
        return
    files = [f"Files: {settings.out}", f"Page, to be opened in a browser: {found.page}"] if found.page else []
    echo("\n".join([figures(shown(found.metrics)), *map(shown, files)]))
