"""How many of the clips a model is scored on it knows already, by themselves or by a sibling of the same source."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..settings import SPLITS
from .index import TEST, TRAIN, source_of

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
    """How many clips of each test list are seen, siblings and clean for a model of each training list.

    `subsets`: key -> its part in splits 1, 2, 3, as in a cache's manifest. Gives (trained on, tested on) -> counts.
    """
    lists = {(split, part): _listed(subsets, split, part) for split in SPLITS for part in (TRAIN, TEST)}
    return {(a, b): Counter(groups(lists[a, TRAIN], lists[b, TEST])) for a in SPLITS for b in SPLITS}


def overlap_table(subsets: Mapping[str, Sequence[int]]) -> str:
    """`overlap` as a Markdown table."""
    rows = ["| trained on | tested on | test clips | seen | sibling | clean |", "|---|---|---|---|---|---|"]
    for (a, b), counts in overlap(subsets).items():
        total = counts.total()
        cells = [f"{counts[group]:,} ({counts[group] / max(total, 1):.1%})" for group in GROUPS]
        rows.append(f"| split {a} | split {b} | {total:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _listed(subsets: Mapping[str, Sequence[int]], split: int, part: int) -> list[str]:
    return [key for key, parts in subsets.items() if parts[split - 1] == part]


def _source(key: str) -> str:
    return source_of(*key.split("/", 1))
