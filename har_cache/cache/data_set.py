"""The data set of a cache: indexed, told to the user, and what the manifest keeps of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.index import NONE, ClipIndex, DataSetName, data_set_name, read_index
from ..data.keys import FILES, source_of
from ..data.lists.rows import list_path
from ..data.splits import TEST
from ..errors import CacheError
from ..progress import Progress
from ..settings.extraction import ExtractSettings
from .manifest import MANIFEST, UNTESTED, Manifest, Splits, read_manifest

_SHOWN = 3


def open_data(settings: ExtractSettings, progress: Progress) -> ClipIndex:
    """Index what is to be extracted, and say what there is. Raises DataError."""
    index = read_index(
        settings.data or list_path(settings.lists[0]).parent,
        settings.splits,
        settings.seed,
        lists=settings.lists,
        source_pattern=settings.source_pattern,
        folds=settings.folds,
    )
    tell_data(index, progress)
    return index


def tell_data(index: ClipIndex, progress: Progress) -> None:
    """Say what there is, and what of it is odd."""
    clips, classes = len(index.clips), len(index.classes)
    progress.say(f"{clips} clips of {classes} classes in {index.root}; split lists: {index.splits_told_by}")
    for what, keys in (
        ("in the split lists, but not on disk", list(index.missing)),
        ("on disk, but in no split list", index.unlisted),
        ("in class folders that are no videos: ignored", index.ignored),
        ("of no source that is told: each is taken for a source of its own", index.untold),
    ):
        if keys:
            shown = ", ".join(sorted(keys)[:_SHOWN])
            progress.say(f"{len(keys)} {what}: {shown}{', ...' if len(keys) > _SHOWN else ''}")
    if index.sources_from == FILES and index.splits_from != NONE:
        progress.say(
            "WARNING: each file is taken for a source of its own: clips of one film, person or recording may be "
            "trained and tested on. Say which are: --source-pattern REGEX, or a column source in a --list"
        )


@dataclass(frozen=True)
class Described:
    """What a manifest keeps of a data set, as it has it."""

    splits: Splits
    sources: Mapping[str, str]
    paths: Mapping[str, str]
    sources_from: str
    data_set: DataSetName


def describe(index: ClipIndex, keys: Iterable[str], cache: Path) -> Described:
    """Of the clips with these keys, which are in the cache; those that the data set has no longer keep what the
    manifest of before says of them.
    """
    labelled = index.splits_from != NONE
    subsets = {**index.missing, **{clip.key: clip.subsets for clip in index.clips}} if labelled else {}
    known = {clip.key: clip.source for clip in index.clips}
    gone = set(keys) - known.keys()
    sources, paths = _before(cache) if gone else ({}, {})
    return Described(
        Splits(index.splits_from, subsets),
        {key: source for key, source in {**_of(sources, gone), **known}.items() if source != source_of(key)},
        {**_of(paths, gone), **index.places},
        index.sources_from,
        data_set_name(index.root),
    )


def _of(values: Mapping[str, str], keys: set[str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key in keys}


def _before(cache: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Sources and places in the manifest that is there; none where it is lost or damaged."""
    try:
        manifest = read_manifest(cache) if (cache / MANIFEST).exists() else None
    except CacheError:
        return {}, {}
    return (manifest.sources, manifest.paths) if manifest else ({}, {})


def tell_changes(before: Manifest, splits: Splits, progress: Progress) -> int:
    """Say where clips are in other parts of the splits than before. Gives how many are tested now that no split tested
    when the projection was fitted on such clips.
    """
    shared = before.splits.subsets.keys() & splits.subsets.keys()
    changed = [key for key in shared if before.splits.subsets[key] != splits.subsets[key]]
    if changed:
        progress.say(
            f"NOTE: {len(changed)} of {len(shared)} clips are in other parts of the splits than before; runs that were "
            "trained on the former ones do not change"
        )
    if UNTESTED not in before.recipe.projection_fit:
        return 0
    newly = [key for key in changed if TEST in splits.subsets[key] and TEST not in before.splits.subsets[key]]
    if len(newly) <= before.tested_since:
        return before.tested_since
    progress.say(
        f"WARNING: the projection was fitted on clips that no split tested, {len(newly)} of which are tested now: for "
        "one that knows no test clip, extract into another directory"
    )
    return len(newly)
