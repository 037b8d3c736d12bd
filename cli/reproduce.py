"""`har-cache reproduce`."""

from har_cache.settings.tools import ReproduceSettings
from har_cache.system import uninterrupted
from har_cache.texts import printable_values as shown

from .console import Bar, echo, print_json
from .options import Json


def reproduce(settings: ReproduceSettings, as_json: Json = False) -> None:
    """HMDB51 from the download to a table: all splits, seeds and folds, frozen and fine-tuned, the honest protocol and
    that of headlines, each figure beside the range that was expected beforehand.

    First says what it will do, and what that costs. Run it again to go on after an interruption.
    """
    from har_cache.workers.pool import fork_server

    fork_server()  # imports torch in parallel with the next lines
    with uninterrupted():
        from har_cache.comparison.tables import text
        from har_cache.reproduction.reproduce import reproduce as do_all

    found = do_all(settings, Bar())
    if found and as_json:
        print_json(found)
    elif found:
        echo(text(shown(found.table)))
