"""The writing side of a run directory: kept to one writer, begun, gone on with, cleared."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
from torch import nn

from ..data.keys import sources_of
from ..devices import Say, changed_versions, kind_of, warn
from ..errors import RunError
from ..storage.files import foreign_names, make_directory, remove_file, sha256, to_csv, write_file
from ..storage.history import HISTORY
from ..storage.locks import alone
from .config import CONFIG, RunConfig, read_config, write_config
from .run import (
    BEST,
    CLIPS,
    CLIPS_HEADER,
    CURVES,
    ENCODER,
    EVALUATIONS,
    FOLDS,
    LAST,
    METRICS,
    MODEL,
    OUT_OF_FOLD,
    REPORT,
    TENSORBOARD,
    read_clips,
    read_sources,
)

_ONE_FILE_EACH = (CONFIG, CLIPS, METRICS, CURVES, BEST, LAST, MODEL, ENCODER, OUT_OF_FOLD, REPORT, HISTORY)
_SHARED = ("stage", "split", "fingerprint", "classes", "folds", "validate_on")  # by a resumed run and its beginning


def check_free(path: Path, resume: bool, overwrite: bool) -> None:
    """Raise RunError where a run is in the way."""
    if overwrite or resume or not (config := read_config(path)):
        return
    raise RunError(
        f"{path}: holds a finished run; choose another --run directory, or pass --overwrite to replace it"
        if config.finished
        else f"{path}: holds an unfinished run; go on with --resume, or start over with --overwrite"
    )


@contextmanager
def writing(path: Path, say: Say) -> Iterator[None]:
    """Keep other writers out of a run's directory, which is made where there is none, and remove what killed ones left
    in it. Raises RunError where one is at work there.
    """
    made = not path.exists()
    make_directory(path)
    try:
        below = [*path.glob(f"{EVALUATIONS}/*"), *path.glob(f"{FOLDS}/*")]
        with alone(path, "training or evaluation", say, RunError, below):
            yield
    finally:
        if made:
            with suppress(OSError):  # it holds a run now
                path.rmdir()


def begin(
    path: Path,
    config: RunConfig,
    clips: Mapping[str, str],
    resume: bool = False,
    overwrite: bool = False,
    encoder: bytes | None = None,
    say: Say = warn,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Begin a run, or go on with it; false where it is finished.

    `clips`: the subset of each, by key; `encoder`: that of the cache, to be kept; `sources`: of those clips whose names
    do not tell it, by key. `say` is told where the run goes on with another device or version than it was begun with.
    Raises HarCacheError where a run is in the way, or the one to go on with was begun with other settings.
    """
    check_free(path, resume, overwrite)
    _create(path)
    if overwrite:
        clear(path)
    begun = read_config(path)
    if begun is None:
        clear(path)
        digest = write_clips(path, dict(sorted(clips.items())), sources)
        if encoder is not None:
            write_file(path / ENCODER, encoder)
        write_config(path, replace(config, files={CLIPS: digest}))
        return True
    changed = _differences(begun, config)
    if read_clips(path, begun) != clips:
        changed.append(_of_clips(begun, config))
    elif read_sources(path, begun) != sources_of(clips, sources):
        changed.append("sources of clips")
    if changed:
        raise RunError(f"{path}: was begun with other settings ({'; '.join(changed)}); give the same, or --overwrite")
    if begun.finished:
        return False
    if moved := _moved(begun, config):
        say(f"WARNING: {path}: was begun with {'; '.join(moved)}: it may end with slightly other figures")
    return True


def write_clips(path: Path, clips: Mapping[str, str], sources: Mapping[str, str] = MappingProxyType({})) -> str:
    """Commit clips.csv, with sources where some are other than names tell; gives its sha256."""
    known = sources_of(clips, sources)
    columns = 2 if known == sources_of(clips, {}) else 3
    data = to_csv(CLIPS_HEADER[:columns], [(key, subset, known[key])[:columns] for key, subset in clips.items()])
    write_file(path / CLIPS, data)
    return sha256(data)


def save_model(model: nn.Module, path: Path) -> str:
    """Commit model.safetensors; gives its sha256."""
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_file(path / MODEL, data)
    return sha256(data)


def clear(path: Path) -> None:
    """Remove the run in this directory, config first; what is not a run's stays. Raises FileError."""
    for name in _ONE_FILE_EACH:
        remove_file(path / name)
    for name in (EVALUATIONS, FOLDS, TENSORBOARD):  # figures of a run that is no more, its heads, its curves
        shutil.rmtree(path / name, ignore_errors=True)


def _create(path: Path) -> None:
    """Make the directory. Raises HarCacheError where it holds other things than a run."""
    make_directory(path)
    foreign = foreign_names(path, (*_ONE_FILE_EACH, EVALUATIONS, FOLDS, TENSORBOARD))
    if foreign and not (path / CONFIG).exists():
        raise RunError(f"{path}: holds other files ({min(foreign)}, ...); choose an empty directory")


def _moved(old: RunConfig, new: RunConfig) -> list[str]:
    """The kind of device, and versions, that a resumed run does not share with its beginning."""
    kinds = [kind_of(config.device) for config in (old, new)]
    device = [f"device {kinds[0]}, now {kinds[1]}"] if all(kinds) and kinds[0] != kinds[1] else []
    return device + changed_versions(old.versions, new.versions)


def _differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Settings that a resumed run must share with its beginning, and does not."""
    found = [name for name in _SHARED if getattr(old, name) != getattr(new, name)]
    start = [config.started_from and config.started_from.model_sha256 for config in (old, new)]
    found += ["the run it starts from"] if start[0] != start[1] else []
    before, now = ({**vars(config.head), **vars(config.training)} for config in (old, new))
    return found + [
        f"{name} {before.get(name)}, now {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _of_clips(old: RunConfig, new: RunConfig) -> str:
    """Why other clips train or validate."""
    if old.fold == new.fold:
        return "clips of the training list"
    return f"fold {'drawn by the seed' if old.fold is None else old.fold}, now {new.fold}"
