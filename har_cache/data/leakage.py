"""Overlap of the clips a model was trained on with those it is scored on: seen, siblings of one source, clean."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..settings import SPLITS
from .index import TEST, TRAIN, source_of, split_key

SEEN, SIBLING, CLEAN = GROUPS = ("seen", "sibling", "clean")


def groups(trained: Iterable[str], tested: Iterable[str]) -> list[str]:
    """The group of each tested clip, by key: `seen` if it is among the trained ones, `sibling` if one of them was cut
    from the same source, else `clean`.

    A run's validation clips belong to the trained ones too: its best epoch was picked on them.
    """
    keys = set(trained)
    sources = {_source(key) for key in keys}
    return [SEEN if key in keys else SIBLING if _source(key) in sources else CLEAN for key in tested]


def overlap(subsets: Mapping[str, Sequence[int]]) -> dict[tuple[int, int], Counter[str]]:
    """Counts of seen, sibling and clean clips in each test list, for a model of each training list.

    `subsets`: key -> its part in splits 1, 2, 3, as in a cache's manifest. Gives (trained on, tested on) -> counts.
    """
    lists = {(split, part): _listed(subsets, split, part) for split in SPLITS for part in (TRAIN, TEST)}
    return {(a, b): Counter(groups(lists[a, TRAIN], lists[b, TEST])) for a in SPLITS for b in SPLITS}


def _listed(subsets: Mapping[str, Sequence[int]], split: int, part: int) -> list[str]:
    return [key for key, parts in subsets.items() if parts[split - 1] == part]


def _source(key: str) -> str:
    return source_of(*split_key(key))
