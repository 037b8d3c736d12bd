"""Overlap of the clips a model was trained on with those it is scored on: seen, siblings of one source, clean; and of
the clean ones, those of a film that it knows from another class.
"""

from collections.abc import Iterable

from .keys import film_of, source_of

SEEN, SIBLING, CLEAN = GROUPS = ("seen", "sibling", "clean")


def groups(trained: Iterable[str], tested: Iterable[str]) -> list[str]:
    """The group of each tested clip, by key: `seen` if it is among the trained ones, `sibling` if one of them was cut
    from the same source, else `clean`.

    A run's validation clips belong to the trained ones too: its best epoch was picked on them.
    """
    keys = set(trained)
    sources = {source_of(key) for key in keys}
    return [SEEN if key in keys else SIBLING if source_of(key) in sources else CLEAN for key in tested]


def in_other_class(trained: Iterable[str], tested: Iterable[str]) -> list[bool]:
    """Whether each tested clip, by key, is of a film that the trained ones have in other classes only.

    Such a clip is clean. It is no leak, since the look of its film then speaks for a wrong class; yet the model has
    seen the film.
    """
    sources = {source_of(key) for key in trained}
    films = {film_of(source) for source in sources}
    return [source not in sources and film_of(source) in films for source in map(source_of, tested)]
