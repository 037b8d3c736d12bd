"""`har-cache info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from har_cache.storage.parsing import to_json_types
from har_cache.texts import printable

from .console import echo, plural, print_json
from .options import Json

_MOST = 20  # failures that are listed


def info(
    cache: Annotated[Path, typer.Argument(help="Cache directory.")],
    as_json: Json = False,
) -> None:
    """Show what a cache holds, and how it was made."""
    from har_cache.cache.manifest import read_manifest

    manifest = read_manifest(cache)
    if as_json:
        print_json({key: value for key, value in sorted(to_json_types(manifest).items()) if key != "files"})
        return
    counts = manifest.counts
    lines = [
        f"{cache}: {plural(counts.clips, 'clip')} of {plural(len(manifest.classes), 'class')}, "
        f"{plural(counts.frames, 'frame')}, {plural(counts.shards, 'shard')}",
        f"  fingerprint    {manifest.fingerprint}",
        *(f"  {key:<14} {_plain(value)}" for key, value in manifest.recipe.to_dict().items() if key != "schema"),
        f"  splits         {manifest.splits.from_}",
        f"  made with      {', '.join(f'{name} {version}' for name, version in manifest.versions.items())}",
        f"  failures       {counts.failures}",
        *(f"    {failure.key}: {failure.reason}" for failure in manifest.failures[:_MOST]),
    ]
    if counts.failures > _MOST:
        lines.append(f"    and {counts.failures - _MOST} more, in {cache / 'failures.csv'}")
    echo("\n".join(map(printable, lines)))


def _plain(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)
