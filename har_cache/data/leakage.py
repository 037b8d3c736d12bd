"""Overlap of the clips a model was trained on with those it is scored on: seen, siblings of one source, clean."""

from collections.abc import Iterable

from .keys import source_of

SEEN, SIBLING, CLEAN = GROUPS = ("seen", "sibling", "clean")


def groups(trained: Iterable[str], tested: Iterable[str]) -> list[str]:
    """The group of each tested clip, by key: `seen` if it is among the trained ones, `sibling` if one of them was cut
    from the same source, else `clean`.

    A run's validation clips belong to the trained ones too: its best epoch was picked on them.
    """
    keys = set(trained)
    sources = {source_of(key) for key in keys}
    return [SEEN if key in keys else SIBLING if source_of(key) in sources else CLEAN for key in tested]
