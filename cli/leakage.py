"""`har-cache leakage`."""

from har_cache.settings.evaluation import LeakageSettings
from har_cache.texts import printable_values as shown

from .console import echo, print_json
from .options import Json


def leakage(settings: LeakageSettings, as_json: Json = False) -> None:
    """Count how many clips of each test list a model knows, or their films, that was trained on the list of each split.

    No video is opened, nothing is trained.
    """
    from har_cache.comparison.tables import render
    from har_cache.scoring.overlap import overlap, table

    found = overlap(settings)
    if as_json:
        print_json(found)
    else:
        echo(render([shown(table(found))], settings.format))
