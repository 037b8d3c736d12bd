"""Films that the sample is cut from: titles, people and rooms, and which films serve two pairs of classes."""

from dataclasses import dataclass

import numpy as np

from .actions import PAIRS
from .people import Look, draw_look, with_room

_SHARED_EVERY = 3  # films; about 30% of the clips of a test list of HMDB51 are of a film that trains in another class
_VIEWS = ("fr", "le", "fr", "ri", "ba")  # in about the proportions of HMDB51
_TURN = (5**0.5 - 1) / 2  # of hue, from class to class: far from those of all others

# Some hold the name of a class, or what a shell or a parser trips over, as those of HMDB51 do.
_FIRST = """Quiet Late Little Golden (Home)_Movies Lost Summer Sunday Wow! Second The_Last Northern Borrowed Paper
    Silent Red Blue Broken A+B Harbour Winter Slow Everyday Vlog_#7 Distant Hidden Tom_&_Ann Morning"""
_SECOND = """Street Window Garden Please_sit_down Letter Kitchen Stairs River Never_leave_me Workout Dance Tutorial
    Holiday Neighbours Theatre Rehearsal Lesson Visitor Bend_in_the_Road Station Party Office Bakery Interview
    Island Hotel Musical Mirror"""


@dataclass(frozen=True)
class Film:
    """A film: several clips are cut from it, perhaps of two pairs of classes."""

    title: str
    look: Look


def is_shared(pair: int, source: int) -> bool:
    """Whether this film of a pair is one of the neighbouring pair's as well."""
    return source % _SHARED_EVERY == 0 and pair ^ 1 < len(PAIRS)


def film(pair: int, source: int, seed: int, hard: bool) -> Film:
    """The film of this number that clips of a pair are cut from; `hard`: with more grain."""
    owner = min(pair, pair ^ 1) if is_shared(pair, source) else pair
    rng = np.random.default_rng([seed, owner, source, 1])
    return Film(_title(source * len(PAIRS) + owner, seed), draw_look(str(rng.choice(_VIEWS)), rng, hard))


def of_class(look: Look, pair: int, side: int) -> Look:
    """The look with a room in the colour of a class, the first or the second of its pair (`side` 0 or 1)."""
    return with_room(look, (2 * pair + side) * _TURN)


def _title(index: int, seed: int) -> str:
    titles = [f"{first}_{second}" for first in _FIRST.split() for second in _SECOND.split()]
    order = np.random.default_rng(seed).permutation(len(titles))
    part, which = divmod(index, len(titles))
    return titles[order[which]] + (f"_part_{part + 1}" if part else "")
