"""Whose a run directory is: refused where another run is in it, begun, or gone on with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import write_file
from . import run


def check_free(path: Path, resume: bool, overwrite: bool) -> None:
    """Raise HarCacheError where a run is in the way, before anything else is read."""
    config = run.read_config(path)
    if config and not (resume or overwrite):
        raise RunError(
            f"{path}: holds a finished run; choose another --run directory, or pass --overwrite to replace it"
            if run.is_finished(config)
            else f"{path}: holds an unfinished run; go on with --resume, or start over with --overwrite"
        )


def claim(
    path: Path, config: Mapping[str, Any], clips: Mapping[str, str], overwrite: bool, files: Mapping[str, bytes]
) -> bool:
    """Begin a run, or go on with it; false where it is finished.

    `clips`: the subset of each, by key; `files`: what else the run starts with. Raises HarCacheError where the run that
    is there was begun with other settings.
    """
    run.create(path)
    if overwrite:
        run.clear(path)
    begun = run.read_config(path)
    if begun is None:
        run.clear(path)
        run.write_clips(path, dict(sorted(clips.items())))
        for name, data in files.items():
            write_file(path / name, data)
        run.write_config(path, config)
        return True
    changed = _differences(begun, config)
    changed += ["clips of the training list"] if run.read_clips(path) != clips else []
    if changed:
        raise RunError(f"{path}: was begun with other settings ({'; '.join(changed)}); give the same, or --overwrite")
    return not run.is_finished(begun)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a resumed run must share with its beginning, and does not."""
    found = [name for name in ("stage", "split", "fingerprint", "classes") if old[name] != new[name]]
    start = [config.get("started_from", {}).get("model_sha256") for config in (old, new)]
    found += ["the run it starts from"] if start[0] != start[1] else []
    for part in ("head", "training"):
        names = sorted({*old[part], *new[part]})
        found += [
            f"{name} {old[part].get(name)}, now {new[part].get(name)}"
            for name in names
            if old[part].get(name) != new[part].get(name)
        ]
    return found
