"""`har-cache download`."""

from dataclasses import asdict

import typer

from har_cache.settings.tools import DownloadSettings

from .console import SOME_FAILED, Bar, print_json, say
from .options import Json


def download(settings: DownloadSettings, as_json: Json = False) -> None:
    """Fetch HMDB51, unpack it, and check that all of it is there: 51 classes, 6,766 clips, 153 split lists.

    Run it again to go on after an interruption; what is there already is not fetched again. Exit code 3: some clips are
    missing (named in missing.txt), all others are there.
    """
    from har_cache.downloading.download import ARCHIVES, some
    from har_cache.downloading.download import download as fetch

    report, out = fetch(settings, Bar()), settings.out
    if as_json:
        print_json({"out": str(out), **asdict(report)})
    say(f"{report.arrived} clips are new" if report.arrived else "Nothing new")
    say(f"{out}: {report.classes} classes, {report.clips} clips, {report.lists} split lists")
    if report.missing:
        say(f"{len(report.missing)} clips are missing (named in {out / 'missing.txt'}): {some(report.missing)}")
        raise typer.Exit(SOME_FAILED)
    if (out / ARCHIVES).is_dir():
        say(f"Complete; {out / ARCHIVES} is not needed any more")
