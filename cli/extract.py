"""`har-cache extract`."""

from collections import Counter

import typer

from har_cache.settings import ExtractSettings
from har_cache.system import uninterrupted

from .console import SOME_FAILED, Bar, plural, say
from .options import AllowFailed


def extract(settings: ExtractSettings, allow_failed: AllowFailed = False) -> None:
    """Stage one: videos -> frozen encoder -> a verified cache of 256-d embeddings, one per frame.

    Run it again to go on after an interruption, or to add new clips. Exit code 3: some clips failed (see failures.csv
    in the cache), all others are there.
    """
    with uninterrupted():
        from har_cache.extraction.extract import extract as embed

    report = embed(settings, Bar())
    if report.seconds:
        rate = report.frames / report.seconds
        done = f"{plural(report.clips, 'clip')}, {plural(report.frames, 'frame')}"
        say(f"Extracted {done} in {report.seconds:.1f} s: {rate:.0f} frames/s")
        total = sum(report.busy_s.values()) or 1.0
        say("Time went into " + ", ".join(f"{stage} {s / total:.0%}" for stage, s in report.busy_s.items()))
    else:
        say("Nothing to do: the cache is up to date")
    if report.failures:
        say(f"{plural(len(report.failures), 'clip')} failed (named in {settings.cache / 'failures.csv'}):")
        for reason, count in Counter(report.failures.values()).most_common():
            say(f"  {count} x {reason}")
    counts = report.manifest.counts
    held = f"{plural(counts.clips, 'clip')}, {plural(counts.frames, 'frame')}"
    say(f"{settings.cache}: {held} in {plural(counts.shards, 'shard')}")
    if report.failures and not allow_failed:
        raise typer.Exit(SOME_FAILED)
