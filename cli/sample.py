"""`har-cache sample`."""

from har_cache.settings.tools import SampleSettings

from .console import Bar, say


def sample(settings: SampleSettings) -> None:
    """Draw a small data set in HMDB51's layout: human-like actions whose order in time decides."""
    from har_cache.sample_data.draw import draw

    report = draw(settings, Bar())
    say(f"{report.clips} clips of {report.classes} actions, {report.frames} frames, in {report.path}")
