"""`har-cache sample`."""

from har_cache.settings.tools import SampleSettings

from .console import Bar, print_json, say
from .options import Json


def sample(settings: SampleSettings, as_json: Json = False) -> None:
    """Draw a small data set in HMDB51's layout: human-like actions whose order in time decides."""
    from har_cache.sample_data.draw import draw

    report = draw(settings, Bar())
    if as_json:
        print_json(report)
    say(f"{report.clips} clips of {report.classes} actions, {report.frames} frames, in {report.path}")
