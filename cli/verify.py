"""`har-cache verify`."""

from pathlib import Path
from typing import Annotated

import typer

from har_cache.texts import printable

from .console import Bar, echo, print_json
from .options import Json


def verify(
    cache: Annotated[Path, typer.Argument(help="Cache directory.")],
    data: Annotated[Path | None, typer.Option(help="Also compare the source files in this data set.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute every checksum and count of a cache; exit code 1 if anything is wrong."""
    from har_cache.cache.verify import verify as find_problems

    problems = find_problems(cache, data, Bar())
    if as_json:
        print_json({"cache": str(cache), "ok": not problems, "problems": problems})
    else:
        echo("\n".join(map(printable, problems or [f"{cache}: all files are as they were written"])))
    if problems:
        raise typer.Exit(1)
