"""`har-cache finetune`."""

import typer

from har_cache.settings.training import FinetuneSettings
from har_cache.system import uninterrupted

from .console import SOME_FAILED, Bar, plural, print_json, resumable, say
from .options import AllowFailed, Json
from .runs import outcome, run_content


def finetune(settings: FinetuneSettings, allow_failed: AllowFailed = False, as_json: Json = False) -> None:
    """Stage three: raw frames -> encoder and head trained end to end, from a run of stage two on.

    The clips that it learns from and validates on are the run's. Exit code 3: some clips do not decode; they were left
    out, and are named.
    """
    from har_cache.workers.pool import fork_server

    fork_server()  # imports torch in parallel with the next lines
    with uninterrupted():
        from har_cache.finetuning import finetune as stage

    with resumable(settings.run):
        finished = stage.finetune(settings, Bar())
    if as_json:
        print_json({**run_content(finished.run.path), "throughput": finished.throughput})
    if found := finished.throughput:
        say(
            f"{found.achieved:.1f} clips/s; decoding alone {found.decode:.1f}, training alone {found.compute:.1f}; "
            f"{found.waited:.1%} of the time went into waiting for frames"
        )
    if finished.failures:
        failed = plural(len(finished.failures), "clip")
        say(f"{failed} could not be decoded, and left out (named above, and in config.json)")
    say(f"{outcome(finished.run)}; next: har-cache evaluate {finished.run.path}")
    if finished.failures and not allow_failed:
        raise typer.Exit(SOME_FAILED)
