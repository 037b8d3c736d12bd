"""Clips of the sample, dealt into three splits as those of HMDB51 are."""

from collections.abc import Collection, Sequence

import numpy as np

_SPARED, _TEST, _TRAIN = 0.37, 0.25, 0.58  # share of clips tested by no split; tested, trained on in each


def deal(sources: Sequence[int], rng: np.random.Generator, shared: Collection[int] = ()) -> list[list[int]]:
    """Deal clips, given the source of each, into three splits: 1 train, 2 test, 0 unused, for each clip.

    As in HMDB51, the three re-partition the same clips, no source is on both sides of one split, quotas are exact
    as far as sources allow, and about 37% of the clips are tested by no split. Those are of `shared` sources only where
    there are no others.
    """
    order = sorted((int(source) for source in rng.permutation(sorted(set(sources)))), key=lambda s: s in shared)
    counts = [sources.count(source) for source in order]
    spared = int(np.searchsorted(np.cumsum(counts), _SPARED * len(sources)))
    pool = [int(source) for source in rng.permutation(order[spared:])]
    starts = [k * len(pool) // 3 for k in range(3)]
    return [_deal_one(sources, pool[start:] + pool[:start], rng) for start in starts]


def _deal_one(sources: Sequence[int], testable: Sequence[int], rng: np.random.Generator) -> list[int]:
    subset = [0] * len(sources)
    wanted = round(_TEST * len(sources))
    tested = set()
    for source in testable:
        missing = wanted - subset.count(2)
        if missing == 0:
            break
        tested.add(source)
        for clip in [clip for clip, other in enumerate(sources) if other == source][:missing]:
            subset[clip] = 2
    rest = [clip for clip, source in enumerate(sources) if source not in tested]
    for clip in rng.permutation(rest)[: round(_TRAIN * len(sources))]:
        subset[clip] = 1
    return subset
