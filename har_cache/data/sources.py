"""Sources of clips: the film, person or recording that each is of, by file names or as the owner of the data says."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..errors import DataError, SettingError
from .keys import FILES, GIVEN, NAMES, class_of, film_of, flat, source_of


@dataclass(frozen=True)
class Sources:
    """Source of each clip, `<class>/<source>`, by key; what told them, one of `keys.SOURCES_FROM`; and the clips that
    neither the column nor the pattern tells the source of, each of which is a source of its own.
    """

    by_key: Mapping[str, str]
    from_: str
    untold: tuple[str, ...] = ()


def tell_sources(places: Mapping[str, str], given: Mapping[str, str], pattern: str | None) -> Sources:
    """By the list's column, `given`, of some clips by key; or by the pattern; or by names.

    A pattern is looked for in a file's name, or, if it contains a slash, in its path, which `places` has by key: its
    first group is the source, or else all that it matches. Raises SettingError where the pattern is none, or there
    is a column too; DataError where it matches no clip.
    """
    if pattern is not None and given:
        raise SettingError("--source-pattern: the list has a column source; give one of them")
    if pattern is not None:
        return _given(places, _matching(pattern), f"--source-pattern {pattern}: matches none of {len(places)} clips")
    if given:
        return _given(places, lambda key, place: given.get(key, ""), "the column source names none of the clips")
    by_key = {key: source_of(key) for key in sorted(places)}
    own = all(film_of(source) == PurePosixPath(key).stem for key, source in by_key.items())
    return Sources(by_key, FILES if own else NAMES)


def _given(places: Mapping[str, str], tell: Callable[[str, str], str], fault: str) -> Sources:
    told = {key: flat(tell(key, places[key])) for key in sorted(places)}
    untold = tuple(key for key, source in told.items() if source in ("", ".", ".."))
    if len(untold) == len(told):
        raise DataError(f"{fault}, as {min(untold)}")
    # The whole name of a file, suffix and all, which no pattern that leaves it out has given to another.
    own = {key: key for key in untold}
    return Sources({**{key: f"{class_of(key)}/{source}" for key, source in told.items()}, **own}, GIVEN, untold)


def _matching(pattern: str) -> Callable[[str, str], str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingError(f"--source-pattern {pattern}: expected a regular expression: {error}") from error

    def source(key: str, place: str) -> str:
        match = compiled.search(place if "/" in pattern else key.partition("/")[2])
        return (match[1 if compiled.groups else 0] or "") if match else ""

    return source
