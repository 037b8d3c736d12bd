"""`har-cache info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from har_cache.errors import HarCacheError
from har_cache.storage.parsing import to_json_types
from har_cache.texts import printable

from .console import echo, plural, print_json
from .options import Json
from .runs import run_content, run_lines

_MOST = 20  # failures that are listed
_RUNS = ("", "s*/", "s*/s*/")  # where a run is, or those of several splits, several seeds, or both


def info(
    path: Annotated[Path, typer.Argument(help="Cache or run directory; or one of several runs.", metavar="CACHE|RUN")],
    as_json: Json = False,
) -> None:
    """Show what a cache holds and how it was made; or what a run was trained on, how, and what came of it."""
    from har_cache.cache.manifest import MANIFEST, PLAN
    from har_cache.model.config import CONFIG

    if any(next(path.glob(pattern + CONFIG), None) for pattern in _RUNS):
        _show_runs(path, as_json)
    elif path.is_dir() and not any((path / name).exists() for name in (MANIFEST, PLAN)):
        raise HarCacheError(f"{path}: is neither a cache nor a run")
    else:
        _show_cache(path, as_json)


def _show_runs(path: Path, as_json: bool) -> None:
    from har_cache.model.run import find_runs

    runs = find_runs(path)
    if as_json:
        found = [run_content(run) for run in runs]
        print_json({"runs": found} if len(found) > 1 else found[0])
    else:
        echo("\n\n".join("\n".join(map(printable, run_lines(run))) for run in runs))


def _show_cache(cache: Path, as_json: bool) -> None:
    from har_cache.cache.manifest import read_manifest

    manifest = read_manifest(cache)
    if as_json:
        print_json({key: value for key, value in sorted(to_json_types(manifest).items()) if key != "files"})
        return
    counts, recipe = manifest.counts, manifest.recipe.to_dict()
    if "projection_fit" in recipe:
        recipe["projection_fit"] = manifest.projection_fit
    lines = [
        f"{cache}: {plural(counts.clips, 'clip')} of {plural(len(manifest.classes), 'class')}, "
        f"{plural(counts.frames, 'frame')}, {plural(counts.shards, 'shard')}",
        f"  fingerprint    {manifest.fingerprint}",
        *(f"  {key:<14} {_plain(value)}" for key, value in recipe.items() if key != "schema"),
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
