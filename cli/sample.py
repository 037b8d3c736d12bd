"""`har-cache sample`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Debug, friendly, say


def sample(
    out: Annotated[Path, typer.Option(help="Directory to draw into.")],
    classes: Annotated[int, typer.Option(help="Actions, 2 to 8; they come in time-reversed pairs.")] = 8,
    clips: Annotated[int | None, typer.Option(help="Clips of each action; default: 80, or 40 with --hard.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other people.")] = 0,
    hard: Annotated[bool, typer.Option("--hard", help="A harder one: noisier, and with fewer clips.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    debug: Debug = False,
) -> None:
    """Draw a small data set in HMDB51's layout: human-like actions whose order in time decides."""
    with friendly(debug):
        from har_cache.drawing.draw import draw

        report = draw(out, classes, clips, seed, workers, hard=hard)
        say(f"{report.clips} clips of {report.classes} actions, {report.frames} frames, in {report.path}")
