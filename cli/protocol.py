"""`har-cache protocol`."""

from har_cache.settings.tools import ProtocolSettings
from har_cache.texts import printable_values as shown

from .console import Bar, echo, print_json
from .options import Json


def protocol(settings: ProtocolSettings, as_json: Json = False) -> None:
    """Train by the protocol of headlines (split 1, its epoch picked on split 2's test list) and by the honest one, and
    test each model on all test lists: how much of the headline is clips that the model knew.

    Run it again to go on after an interruption.
    """
    from har_cache.comparison.tables import text
    from har_cache.reproduction.matrix import table
    from har_cache.reproduction.protocol import protocol as train_both

    found = train_both(settings, Bar())
    if as_json:
        print_json(found)
    else:
        echo(text(shown(table(found))))
