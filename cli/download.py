"""`har-cache download`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Bar, Debug, Json, friendly, say

if TYPE_CHECKING:
    from har_cache.downloading.download import Report

SOMETHING_MISSING = 3


def download(
    out: Annotated[Path, typer.Option(help="Folder to fill, or to complete; extract takes it as --data.")],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="An archive, a folder with what was unpacked of it, or the URL of an archive or of a folder of both; "
            "may be given several times. Default: the official site.",
        ),
    ] = None,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified", help="Take archives whose sha256 is not the published one, and check what is in them."
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fetch HMDB51, unpack it, and check that all of it is there: 51 classes, 6,766 clips, 153 split lists.

    Run it again to go on after an interruption; what is there already is not fetched again. Exit code 3: some clips are
    missing (named in missing.txt), all others are there.
    """
    with friendly(debug):
        from har_cache.downloading.download import Settings
        from har_cache.downloading.download import download as fetch

        progress = Progress()
        try:
            report = fetch(Settings(out=out, sources=tuple(sources or ()), unverified=unverified), progress)
        finally:
            progress.close()
        if as_json:
            typer.echo(json.dumps({"out": str(out), **asdict(report)}, indent=2))
        _summarise(report, out)
        if report.missing:
            raise typer.Exit(SOMETHING_MISSING)


def _summarise(report: "Report", out: Path) -> None:
    from har_cache.downloading.download import ARCHIVES, some

    say(f"{report.arrived} clips are new" if report.arrived else "Nothing new")
    say(f"{out}: {report.classes} classes, {report.clips} clips, {report.lists} split lists")
    if report.missing:
        say(f"{len(report.missing)} clips are missing (named in {out / 'missing.txt'}): {some(report.missing)}")
    elif (out / ARCHIVES).is_dir():
        say(f"Complete; {out / ARCHIVES} is not needed any more")


class Progress(Bar):
    """A download's listener: a bar on a terminal, a log line now and then elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._what = self._unit = ""
        self._total: int | None = None
        self._done = 0

    def begin(self, what: str, unit: str, total: int | None, done: int) -> None:
        """Start counting."""
        self._what, self._unit, self._total, self._done = what, unit, total, done
        self._open(total=total, initial=done, desc=what, unit=unit, unit_scale=unit == "B", unit_divisor=1024)

    def advance(self, count: int) -> None:
        """Count on."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._due():
            say(f"{self._what}: {self._so_far()}")

    def _so_far(self) -> str:
        if self._unit != "B":
            return f"{self._done} of {self._total} {self._unit}s"
        total = f" of {self._total / 2**20:.1f}" if self._total else ""
        return f"{self._done / 2**20:.1f}{total} MiB"
