"""Keys of clips, `<class>/<file name>`: the class in one, and the film or upload that its clip was cut from."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

# What tells the sources of a data set: its file names, as in HMDB51 and UCF101; a column or a pattern that its owner
# has given; nothing, so that each file is taken for a source of its own.
NAMES, GIVEN, FILES = SOURCES_FROM = ("names", "given", "files")

_UCF101_NAME = re.compile(r"(v_.+_g[0-9]+)_c[0-9]+")


def class_of(key: str) -> str:
    """The class in the key of a clip or of a source."""
    return key.partition("/")[0]


def film_of(source: str) -> str:
    """The film or upload of a source, `<class>/<film>`, whatever the class: one film may be a source of several."""
    return source.partition("/")[2]


def source_of(key: str) -> str:
    """Name the film or upload that a clip was cut from, as `<class>/<source>`, by the clip's key.

    In HMDB51 it stands before the last `_<class>_` of the file name: titles contain the class too, as in
    `How_to_pour_wine_..._pour_...`. In UCF101 it is the group, `v_<Class>_g08`. Other files are their own.
    """
    class_name, _, file_name = key.partition("/")
    stem = Path(file_name).stem
    # The class inside a UCF101 name may differ from its folder's in case, so the pattern alone decides.
    if group := _UCF101_NAME.fullmatch(stem):
        return f"{class_name}/{group[1]}"
    return f"{class_name}/{file_name.rpartition(f'_{class_name}_')[0] or stem}"


def flat(path: str) -> str:
    """A path, or any text with slashes, as the part of a key that stands behind its one slash."""
    return path.replace("/", "__")


def to_keys(classes: Mapping[str, str]) -> dict[str, str]:
    """The key of each clip by its file, relative to the data set; `classes`: by the same. Files of a class that have a
    name in common have their whole paths in their keys, whatever the order.
    """
    named: defaultdict[str, list[str]] = defaultdict(list)
    for place, class_name in classes.items():
        named[f"{class_name}/{place.rpartition('/')[2]}"].append(place)
    return {
        place: key if len(places) == 1 else f"{classes[place]}/{flat(place)}"
        for key, places in named.items()
        for place in places
    }


def sources_of(keys: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """The source of each clip by key: the `given` one, or else what its name tells."""
    return {key: given.get(key) or source_of(key) for key in keys}
