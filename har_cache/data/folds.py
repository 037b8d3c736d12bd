"""Clips of a training list that validate: whole films, held out in parts that have no clip in common."""

import hashlib

import numpy as np

from ..errors import HarCacheError
from .keys import film_of

_VAL_FOLDS = 7
_TRAINS = -1  # the part of a film that is never held out


def hold_out(labels: np.ndarray, sources: np.ndarray, fold: int = 0) -> np.ndarray:
    """Which clips validate, bool (clips): about a seventh of each class, whole films; `sources`: `<class>/<film>`.

    `fold`, from 0 on, chooses among parts that have no clip in common, the evenest first. A film that several classes
    were cut from is held out of all of them. Test lists do not go so far: in those of HMDB51 30% of the clips are of a
    film that trains under another class, in validation none are, so that the two are not quite alike. A class loses a
    third of its clips or more only where all of its films are as large, and never all: larger films always train.
    Raises HarCacheError where there is no such part.
    """
    films, of_clip = np.unique([film_of(source) for source in sources], return_inverse=True)
    clips = np.zeros((len(films), labels.max() + 1), int)
    np.add.at(clips, (of_clip, labels), 1)
    parts, uneven = _parts(films.tolist(), clips)
    found = sorted(set(parts) - {_TRAINS}, key=lambda part: tuple(uneven[part]))
    if not found:
        raise HarCacheError("each source of the training list is all that a class has: none can validate")
    if fold >= len(found):
        raise HarCacheError(f"--fold {fold}: of this training list expected 0 to {len(found) - 1}")
    return parts[of_clip] == found[fold]


def _parts(films: list[str], clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part, int (films), that each film validates in, or _TRAINS; `clips`: of each film and class. And how uneven
    each part is, (parts, 2): what it has too much or too little of a class, at most, as a share of the class; too much.

    One film after the other, the largest first, goes where it does most for the squares of these shares.
    """
    whole = np.maximum(clips.sum(0), 1)
    allowed = _most_held_out(clips, whole)
    free = np.flatnonzero((clips <= allowed).all(1))
    count = min(_VAL_FOLDS, int(np.count_nonzero(clips, axis=0).max()))
    even = clips.sum(0) / count
    parts, taken = np.full(len(films), _TRAINS), np.zeros((count, len(whole)))
    # Hashes decide between films of a size, and rounding says which are: the same on every machine.
    hashes = [hashlib.sha256(film.encode()).digest() for film in films]
    sizes = np.square(clips / whole).sum(1).round(9)
    for film in sorted(free, key=lambda film: (-sizes[film], hashes[film])):
        fuller = taken + clips[film]
        cost = (np.square((fuller - even) / whole) - np.square((taken - even) / whole)).sum(1).round(9)
        cost[(fuller > allowed).any(1)] = np.inf
        if np.isfinite(cost).any():
            parts[film] = cost.argmin()
            taken[parts[film]] = fuller[parts[film]]
    share = ((taken - even) / whole).round(9)
    return parts, np.stack([np.abs(share).max(1), share.max(1)], 1)


def _most_held_out(clips: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """How many clips of each class a part may hold: less than a third, or the smallest film where that is more."""
    possible = clips[((clips < whole) | (clips == 0)).all(1)]  # films that are not all of a class
    smallest = np.where(possible > 0, possible, whole).min(0, initial=whole.max())
    allowed = np.where(smallest < whole, np.maximum(smallest, (whole - 1) // 3), 0)
    # Films that are small in one class and large in another may leave none.
    return allowed if (clips <= allowed).all(1).any() else whole - 1
