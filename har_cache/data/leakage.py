"""Overlap of the clips a model was trained on with those it is scored on: seen, siblings of one source, clean; and of
the clean ones, those of a film that it knows from another class.
"""

from collections.abc import Mapping

from .keys import film_of

SEEN, SIBLING, CLEAN = GROUPS = ("seen", "sibling", "clean")


def groups(trained: Mapping[str, str], tested: Mapping[str, str]) -> list[str]:
    """The group of each tested clip: `seen` if it is among the trained ones, `sibling` if one of them was cut from the
    same source, else `clean`. Clips are given as sources, `<class>/<film>`, by key.

    A run's validation clips belong to the trained ones too: its best epoch was picked on them.
    """
    sources = set(trained.values())
    return [SEEN if key in trained else SIBLING if source in sources else CLEAN for key, source in tested.items()]


def in_other_class(trained: Mapping[str, str], tested: Mapping[str, str]) -> list[bool]:
    """Whether each tested clip is of a film that the trained ones have in other classes only. Clips are given as
    sources, `<class>/<film>`, by key.

    Such a clip is clean. It is no leak, since the look of its film then speaks for a wrong class; yet the model has
    seen the film.
    """
    sources = set(trained.values())
    films = {film_of(source) for source in sources}
    return [source not in sources and film_of(source) in films for source in tested.values()]
