"""A data set on disk -> an index of its clips, classes, splits and sources.

A data set is a folder of class folders that hold video files, with or without split lists; or one of the other forms
that `layouts` and `lists` read. No file is opened here but the lists: whether a clip can be decoded is found out when
it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import DataError, FileError, SettingError
from ..storage.files import read_json
from .keys import NAMES, class_of
from .layouts import VIDEO_FOLDERS, Layout, find_layout
from .lists.listed import read_listed
from .sources import tell_sources
from .splits import TEST, UNUSED, Subsets, by_clip, draw_splits, find_lists, fold_splits, read_lists

LISTS, DRAWN, NONE = "lists", "drawn", "none"  # where splits are from
SAMPLE_RECORD = "sample.json"  # says of a folder that its videos are drawn, and how
_SAMPLE_FIELDS = frozenset({"format", "classes", "clips", "seed"})


@dataclass(frozen=True)
class DataSetName:
    """What a data set is called, and whether its videos are those that `har-cache sample` draws."""

    name: str
    drawn: bool = False


@dataclass(frozen=True)
class Clip:
    """One video file of the data set, and its part in each split."""

    key: str  # "<class>/<file name>"
    path: Path
    label: int  # index into the classes
    source: str  # "<class>/<source>", unique over the data set
    subsets: Subsets

    @property
    def tested(self) -> bool:
        """Whether some split tests on this clip."""
        return TEST in self.subsets


@dataclass(frozen=True)
class ClipIndex:
    """Contents of a data set, and what its split lists say of them."""

    root: Path  # the folder of class folders, or that the places are relative to
    classes: tuple[str, ...]  # sorted by name
    clips: tuple[Clip, ...]  # sorted by key
    splits_from: str  # LISTS, DRAWN or NONE
    missing: dict[str, Subsets]  # keys in the lists, not on disk
    unlisted: tuple[str, ...]  # keys on disk that no list names, where there are lists
    ignored: tuple[str, ...]  # what lies in class folders and cannot be a clip, relative to the root
    places: Mapping[str, str] = field(default_factory=dict)  # where clips are, by key, if not at root/<key>
    splits_told_by: str = "found on disk"  # in words
    sources_from: str = NAMES  # what tells them, one of `keys.SOURCES_FROM`
    untold: tuple[str, ...] = ()  # keys of clips whose source a pattern or a column does not tell

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The clips' files by key."""
        return {clip.key: clip.path for clip in self.clips}


def read_index(
    data: Path,
    splits: Path | None = None,
    seed: int = 0,
    *,
    lists: Sequence[str] = (),
    source_pattern: str | None = None,
    folds: int | None = None,
    name: Callable[[str], str] | None = None,
) -> ClipIndex:
    """Index the data set that `lists` name, as `lists.rows` has them; or else the one at `data/videos`,
    `data/hmdb51_org` or `data`: the first that holds a clip, in class folders, in such in train/, val/ and test/, or
    without classes.

    Splits are those that the lists or these folders tell; or they come from the split lists in `splits`, or else in
    `data/splits` and the like. Where there are none, they are drawn by source: three, each of which tests on about 30%
    of a class, always the same for the same `seed`; or so many `folds`, which test on each source once.
    Listed clips that are not on disk are no error: they are in `missing`. `name`: as `read_listed` has it.

    Raises `DataError` where a folder or a list cannot be read, the lists belong to other data, or the options
    contradict each other or what is there.
    """
    layout = read_listed(data, lists, name) if lists else find_layout(data)
    sources = tell_sources(layout.places, layout.sources, source_pattern)
    told_by, from_, subsets = _splits(data, layout, sources.by_key, splits, seed, folds)
    keys = layout.places.keys()
    unused = (UNUSED,) * max(map(len, subsets.values()), default=0)
    classes = sorted(set(map(class_of, keys)))
    label = {name: i for i, name in enumerate(classes)}
    clips = [
        Clip(key, layout.root / layout.places[key], label[class_of(key)], source, subsets.get(key, unused))
        for key, source in sources.by_key.items()
    ]
    absent = sorted({*subsets, *layout.missing} - keys)
    return ClipIndex(
        root=layout.root,
        classes=tuple(classes),
        clips=tuple(clips),
        splits_from=from_,
        missing={key: subsets.get(key, unused) for key in absent},
        unlisted=tuple(sorted(keys - subsets.keys())) if from_ == LISTS else (),
        ignored=layout.ignored,
        places={} if layout.by_key else layout.places,
        splits_told_by=told_by,
        sources_from=sources.from_,
        untold=sources.untold,
    )


def data_set_name(root: Path) -> DataSetName:
    """Of the data set whose clips are at `root`, or in a folder of videos in it: the folder's name."""
    folder = root.resolve()
    folder = folder.parent if folder.name in VIDEO_FOLDERS else folder
    return DataSetName(folder.name, _is_drawn(folder / SAMPLE_RECORD))


def _is_drawn(record: Path) -> bool:
    """Whether this is the record of a drawn sample; others may have a file of its name."""
    try:
        return record.is_file() and read_json(record).keys() >= _SAMPLE_FIELDS
    except FileError:
        return False


def _splits(
    data: Path, layout: Layout, sources: Mapping[str, str], splits: Path | None, seed: int, folds: int | None
) -> tuple[str, str, Mapping[str, Subsets]]:
    """What tells the splits, in words; where they are from, as the manifest says it; and each clip's subsets by key."""
    if not layout.labelled:
        if splits or folds:
            raise SettingError(
                f"{layout.root}: its clips have no labels, which splits need: leave --splits and --folds out"
            )
        return "none, since clips have no labels", NONE, {}
    if layout.subsets:
        if splits or folds:
            option = f"--splits {splits}" if splits else f"--folds {folds}"
            raise SettingError(f"{option}: {layout.told_by} say which clips train and test; give one of them")
        return layout.told_by, LISTS, layout.subsets
    lists = find_lists(data, splits)
    if not lists:
        drawn = fold_splits(sources, folds) if folds else draw_splits(sources, seed)
        return f"none on disk: {f'{folds} folds' if folds else 'drawn'} by source, seeded", DRAWN, by_clip(drawn)
    folder = lists[0].path.parent
    if folds:
        raise SettingError(f"--folds {folds}: there are split lists in {folder}; leave it out, or remove them")
    subsets = by_clip(read_lists(lists))
    if layout.places.keys().isdisjoint(subsets):
        raise DataError(
            f"the split lists in {folder} name no clip of {layout.root}: they belong to other data; "
            "choose others with --splits, or remove them to have splits drawn"
        )
    return "found on disk", LISTS, subsets
