"""`har-cache extract`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from har_cache.interrupts import uninterrupted

from .console import SOME_CLIPS_FAILED, Debug, Progress, friendly, plural, say

if TYPE_CHECKING:
    from har_cache.extraction.extract import Report


def extract(
    data: Annotated[Path, typer.Option(help="Folder of class folders (or with videos/ or hmdb51_org/ in it).")],
    cache: Annotated[Path, typer.Option(help="Cache directory to make, or to bring up to date.")],
    splits: Annotated[
        Path | None, typer.Option(help="Folder of <class>_test_split<k>.txt; default: splits/ in --data.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="imagenet, random (demos, tests), a .pth or .safetensors file, or a run.")
    ] = "imagenet",
    projection: Annotated[
        str | None,
        typer.Option(help="pca, random, or an encoder.safetensors; default: the one in --weights, else pca."),
    ] = None,
    views: Annotated[str, typer.Option(help="center, or center,flip.")] = "center",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, fp16, bf16, fp16-mixed or bf16-mixed; auto: the fastest that is faithful.")
    ] = "auto",
    decoder: Annotated[str, typer.Option(help="auto, decord or pyav; the frames are the same.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: one a core.")] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="local, or ray: on the CPUs of a Ray cluster (RAY_ADDRESS; without it, one on this machine). All its "
            "nodes must see --data at the same path."
        ),
    ] = "local",
    shard_clips: Annotated[int, typer.Option(help="Clips a shard; an interrupted run redoes unfinished shards.")] = 64,
    seed: Annotated[int, typer.Option(help="For random weights and projections, and drawn splits.")] = 0,
    clip_timeout: Annotated[float, typer.Option(help="Give up on a clip after so many seconds without a frame.")] = 60,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Exit with 0 although clips failed.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed clips again though their files have not changed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a cache made with another recipe.")] = False,
    debug: Debug = False,
) -> None:
    """Stage one: videos -> frozen encoder -> a verified cache of 256-d embeddings, one per frame.

    Run it again to go on after an interruption, or to add new clips. Exit code 3: some clips failed (see failures.csv
    in the cache), all others are there.
    """
    with friendly(debug):
        from har_cache.workers.server import fork_server

        fork_server()  # imports torch in parallel with the next line
        with uninterrupted():
            from har_cache.extraction import extract as stage

        settings = stage.Settings(
            data=data,
            cache=cache,
            splits=splits,
            weights=weights,
            projection=projection,
            views=tuple(views.split(",")),
            precision=precision,
            decoder=decoder,
            device=device,
            workers=workers,
            executor=executor,
            shard_clips=shard_clips,
            seed=seed,
            overwrite=overwrite,
            retry_failed=retry_failed,
            stall_s=clip_timeout,
        )
        progress = Progress()
        try:
            report = stage.extract(settings, progress)
        finally:
            progress.close()
        _summarise(report, cache)
        if report.failures and not allow_failed:
            raise typer.Exit(SOME_CLIPS_FAILED)


def _summarise(report: "Report", cache: Path) -> None:
    counts = report.manifest["counts"]
    if report.seconds:
        rate = report.frames / report.seconds
        done = f"{plural(report.clips, 'clip')}, {plural(report.frames, 'frame')}"
        say(f"Extracted {done} in {report.seconds:.1f} s: {rate:.0f} frames/s")
        total = sum(report.busy_s.values()) or 1.0
        say("Time went into " + ", ".join(f"{stage} {s / total:.0%}" for stage, s in report.busy_s.items()))
    else:
        say("Nothing to do: the cache is up to date")
    if report.failures:
        from har_cache.extraction.extract import by_reason

        say(f"{plural(len(report.failures), 'clip')} failed (named in {cache / 'failures.csv'}):")
        for reason, count in by_reason(report.failures).most_common():
            say(f"  {count} x {reason}")
    held = f"{plural(counts['clips'], 'clip')}, {plural(counts['frames'], 'frame')}"
    say(f"{cache}: {held} in {plural(counts['shards'], 'shard')}")
