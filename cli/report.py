"""`har-cache report`."""

from pathlib import Path
from typing import Annotated

import typer

from .console import Debug, friendly


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, evaluated.")],
    data: Annotated[
        Path | None, typer.Option(help="The data set, to show the clips that the model is most wrong about.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write RUN/report.html: one page that needs nothing else."""
    with friendly(debug):
        from har_cache.evaluation.report import report as write

        typer.echo(write(run, data))
