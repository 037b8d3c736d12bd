"""`har-cache compare`."""

from har_cache.settings.evaluation import CompareSettings
from har_cache.texts import printable_values as shown

from .console import echo, print_json, say
from .options import Json


def compare(settings: CompareSettings, as_json: Json = False) -> None:
    """Say whether runs differ, by more than chance explains, on the clips that all of them were scored on.

    Every run has been evaluated. One run alone is compared with its linear probes.
    """
    from har_cache.comparison.compare import compare as compare_runs
    from har_cache.comparison.summary import tables, warnings
    from har_cache.comparison.tables import render

    comparison = compare_runs(settings)
    if settings.page:
        from har_cache.pages.comparison import write_page

        write_page(comparison, settings.page)
        say(f"Page, to be opened in a browser: {settings.page}")
    if as_json:
        print_json(comparison)
        return
    said = warnings(comparison)
    if settings.format != "text":  # what is printed is to be pasted, whole
        for line in said:
            say(line)
        said = []
    echo("\n\n".join([*(["\n".join(said)] if said else []), render(shown(tables(comparison)), settings.format)]))
