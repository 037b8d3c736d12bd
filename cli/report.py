"""`har-cache report`."""

from pathlib import Path
from typing import Annotated

import typer

from har_cache.texts import printable

from .console import Bar, echo, print_json
from .options import Json

Runs = Annotated[
    list[Path], typer.Argument(help="Run directories, evaluated; several: one page of all.", metavar="RUN...")
]
Data = Annotated[Path | None, typer.Option(help="Its data set, to show the clips that it is most wrong about.")]
Out = Annotated[
    Path | None, typer.Option(help="Page of several runs; default: comparison.html beside them.", metavar="FILE")
]


def report(runs: Runs, data: Data = None, out: Out = None, as_json: Json = False) -> None:
    """Write a page of figures that needs nothing else: RUN/report.html, or one page of several runs."""
    from har_cache.pages.comparison import write_report

    page = write_report(runs, data, out, Bar())
    if as_json:
        print_json({"runs": runs, "page": page})
    else:
        echo(printable(str(page)))
