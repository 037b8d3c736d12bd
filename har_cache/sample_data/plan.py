"""Plan of the sample data set, before anything is drawn: sources, clips, names, splits.

Classes come in pairs that are each other played backwards. Every clip of a class has a twin in the other class of
its pair: the very same frames in reverse order, cut from the same source, and on the same side of every split. So
whatever ignores the order of frames can tell the pairs apart, but never the two classes of a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .people import Look, draw_look

PAIRS = (("sit", "stand"), ("raise_arms", "lower_arms"), ("approach", "leave"), ("bend", "straighten"))
MIN_CLIPS = 8  # a class with fewer cannot be dealt into three splits that differ

_CLIPS_PER_SOURCE = 3  # as in HMDB51, where it is a little less
_SHORTEST, _LONGEST = 28, 72  # frames
_VIEWS = ("fr", "le", "fr", "ri", "ba")  # in about the proportions of HMDB51
_MOVING = 0.4  # share of clips in which the camera moves
_SPARED, _TEST, _TRAIN = 0.37, 0.25, 0.58  # share of clips tested by no split; tested, trained on in each

# Some hold the name of a class, or what a shell or a parser trips over, as those of HMDB51 do.
_FIRST = """Quiet Late Little Golden (Home)_Movies Lost Summer Sunday Wow! Second The_Last Northern Borrowed Paper
    Silent Red Blue Broken A+B Harbour Winter Slow Everyday Vlog_#7 Distant Hidden Tom_&_Ann Morning"""
_SECOND = """Street Window Garden Please_sit_down Letter Kitchen Stairs River Never_leave_me Workout Dance Tutorial
    Holiday Neighbours Theatre Rehearsal Lesson Visitor Bend_in_the_Road Station Party Office Bakery Interview
    Island Hotel Musical Mirror"""


@dataclass(frozen=True)
class Performance:
    """One action to be drawn: a clip of the first class of its pair and, played backwards, of the second."""

    action: str
    names: tuple[str, str]  # `<class>/<file name>`, forwards and backwards
    source: int  # index within the pair
    look: Look
    frames: int
    moving: bool  # the camera
    seed: tuple[int, ...]


def plan(pair: int, clips: int, seed: int, hard: bool = False) -> list[Performance]:
    """Everything about the `clips` clips of each class of a pair but their pixels, source by source."""
    rng = np.random.default_rng([seed, pair])
    performances = []
    cuts = _cuts(clips, rng)
    views = rng.permutation(np.resize(_VIEWS, len(cuts)))
    for source, (view, shots) in enumerate(zip(views, cuts, strict=True)):
        title = _title(source * len(PAIRS) + pair, seed)
        look = draw_look(str(view), rng, hard)
        for cut in range(shots):
            moving = bool(rng.random() < _MOVING)
            tags = f"f_{'cm' if moving else 'nm'}_np1_{look.view}_{look.quality}_{cut}"
            forwards, backwards = (f"{name}/{title}_{name}_{tags}.avi" for name in PAIRS[pair])
            frames = round(np.clip(look.tempo + rng.uniform(10, 34), _SHORTEST, _LONGEST))
            identity = (seed, pair, source, cut)
            performances.append(
                Performance(PAIRS[pair][0], (forwards, backwards), source, look, frames, moving, identity)
            )
    return performances


def _cuts(clips: int, rng: np.random.Generator) -> list[int]:
    """Number of clips cut from each source: nearly equal, never none."""
    sources = max(4, round(clips / _CLIPS_PER_SOURCE))
    cuts = [clips // sources + (i < clips % sources) for i in range(sources)]
    for i in range(0, sources - 1, 2):
        moved = int(rng.integers(0, 2)) if cuts[i + 1] > 1 else 0
        cuts[i], cuts[i + 1] = cuts[i] + moved, cuts[i + 1] - moved
    return cuts


def _title(index: int, seed: int) -> str:
    titles = [f"{first}_{second}" for first in _FIRST.split() for second in _SECOND.split()]
    order = np.random.default_rng(seed).permutation(len(titles))
    part, which = divmod(index, len(titles))
    return titles[order[which]] + (f"_part_{part + 1}" if part else "")


def deal(sources: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
    """Deal clips, given the source of each, into three splits: 1 train, 2 test, 0 unused, for each clip.

    As in HMDB51, the three re-partition the same clips, no source is on both sides of one split, quotas are exact
    as far as sources allow, and about 37% of the clips are tested by no split.
    """
    order = [int(source) for source in rng.permutation(sorted(set(sources)))]
    counts = [sources.count(source) for source in order]
    spared = int(np.searchsorted(np.cumsum(counts), _SPARED * len(sources)))
    pool = order[spared:]
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
