"""`har-cache extract`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from har_cache.settings.extraction import ExtractSettings
from har_cache.system import uninterrupted

from .console import SOME_FAILED, Bar, plural, print_json, say
from .options import AllowFailed, Json

if TYPE_CHECKING:
    from har_cache.extraction.update import ExtractReport


def extract(settings: ExtractSettings, allow_failed: AllowFailed = False, as_json: Json = False) -> None:
    """Stage one: videos -> frozen encoder -> a verified cache of 256-d embeddings, one per frame.

    Run it again to go on after an interruption, or to add new clips. Exit code 3: some clips failed (see failures.csv
    in the cache), all others are there.
    """
    with uninterrupted():
        from har_cache.extraction.extract import extract as embed

    tell(embed(settings, Bar()), settings.cache, "Extracted", allow_failed, as_json)


def tell(report: "ExtractReport", cache: Path, verb: str, allow_failed: bool, as_json: bool) -> None:
    """Say what came of an update of a cache. Exits with 3 where clips failed and that is not allowed."""
    if as_json:
        print_json(report.to_dict())
    if report.seconds:
        rate = report.frames / report.seconds
        done = f"{plural(report.clips, 'clip')}, {plural(report.frames, 'frame')}"
        say(f"{verb} {done} in {report.seconds:.1f} s: {rate:.0f} frames/s")
        total = sum(report.busy_s.values()) or 1.0
        say("Time went into " + ", ".join(f"{stage} {s / total:.0%}" for stage, s in report.busy_s.items()))
    else:
        say("Nothing to do: the cache is up to date")
    if report.failures:
        say(f"{plural(len(report.failures), 'clip')} failed (named in {cache / 'failures.csv'}):")
        for reason, count in Counter(report.failures.values()).most_common():
            say(f"  {count} x {reason}")
    counts = report.manifest.counts
    held = f"{plural(counts.clips, 'clip')}, {plural(counts.frames, 'frame')}"
    say(f"{cache}: {held} in {plural(counts.shards, 'shard')}")
    if report.failures and not allow_failed:
        raise typer.Exit(SOME_FAILED)
