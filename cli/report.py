"""`har-cache report`."""

from pathlib import Path
from typing import Annotated

import typer

from har_cache.texts import printable

from .console import Bar, echo


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, evaluated.")],
    data: Annotated[
        Path | None, typer.Option(help="The data set, to show the clips that the model is most wrong about.")
    ] = None,
) -> None:
    """Write RUN/report.html: one page that needs nothing else."""
    from har_cache.pages.report import report as write

    echo(printable(str(write(run, data, Bar()))))
