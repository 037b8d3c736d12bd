"""Clips of a training list that validate: whole films, held out in parts that have no clip in common."""

import hashlib

import numpy as np

from ..errors import HarCacheError, SettingError
from .keys import film_of

ALWAYS_TRAINS = -1  # the part of a film that is never held out
_PARTS = 7


def hold_out(labels: np.ndarray, sources: np.ndarray, fold: int = 0) -> np.ndarray:
    """Which clips validate, bool (clips): about a seventh of each class, whole films; `sources`: `<class>/<film>`.

    `fold`, from 0 on, chooses among parts that have no clip in common, the evenest first. A film that several classes
    were cut from is held out of all of them. Test lists do not go so far: in those of HMDB51 30% of the clips are of a
    film that trains under another class, in validation none are, so that the two are not quite alike. A class loses a
    third of its clips or more only where all of its films are as large, and never all: larger films always train.
    Raises HarCacheError where there is no such part.
    """
    films, of_clip, clips = _films(labels, sources)
    count = min(_PARTS, int(np.count_nonzero(clips, axis=0).max()))
    parts, uneven = _deal(films, clips, count, _most_held_out(clips), spread=False)
    found = sorted(set(parts) - {ALWAYS_TRAINS}, key=lambda part: tuple(uneven[part]))
    if not found:
        raise HarCacheError("each source of the training list is all that a class has: none can validate")
    if fold >= len(found):
        raise SettingError(f"--fold {fold}: of this training list expected 0 to {len(found) - 1}")
    return parts[of_clip] == found[fold]


def divide(labels: np.ndarray, sources: np.ndarray, count: int) -> np.ndarray:
    """The fold that each clip validates in, int (clips), 0 to `count` - 1; `sources`: `<class>/<film>`.

    Each film validates once, in all of its classes, however large it is, so that there is a prediction for each clip by
    a model that has seen nothing of its film. Only a film that is all of a class always trains: ALWAYS_TRAINS. Folds
    are as even in each class as films allow. Raises SettingError where there are fewer films than folds.
    """
    films, of_clip, clips = _films(labels, sources)
    parts, _ = _deal(films, clips, count, _whole(clips) - 1, spread=True)
    if (found := len(set(parts) - {ALWAYS_TRAINS})) < count:
        raise SettingError(f"--folds {count}: the sources of this training list make {found} at most")
    return parts[of_clip]


def _films(labels: np.ndarray, sources: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The films, the one of each clip, int (clips), and how many clips of each class a film has, (films, classes)."""
    films, of_clip = np.unique([film_of(source) for source in sources], return_inverse=True)
    clips = np.zeros((len(films), labels.max() + 1), int)
    np.add.at(clips, (of_clip, labels), 1)
    return films.tolist(), of_clip, clips


def _whole(clips: np.ndarray) -> np.ndarray:
    """How many clips each class has, int (classes)."""
    return np.maximum(clips.sum(0), 1)


def _deal(
    films: list[str], clips: np.ndarray, count: int, allowed: np.ndarray, spread: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The one of `count` parts, int (films), that each film validates in, or ALWAYS_TRAINS; `clips`: of each film and
    class, of which a part may have the `allowed`. And how uneven each part is, (parts, 2): what it has too much or too
    little of a class, at most, as a share of the class; too much.

    One film after the other, the largest first, goes where it does most for the squares of these shares; of equals to
    the part that has least so far (`spread`), or to the first, which leaves the large films there and the others even.
    """
    whole = _whole(clips)
    free = np.flatnonzero((clips <= allowed).all(1))
    even = clips.sum(0) / count
    parts, taken = np.full(len(films), ALWAYS_TRAINS), np.zeros((count, len(whole)))
    # Hashes decide between films of a size, and rounding says which are: the same on every machine.
    hashes = [hashlib.sha256(film.encode()).digest() for film in films]
    sizes = np.square(clips / whole).sum(1).round(9)
    for film in sorted(free, key=lambda film: (-sizes[film], hashes[film])):
        fuller = taken + clips[film]
        cost = (np.square((fuller - even) / whole) - np.square((taken - even) / whole)).sum(1).round(9)
        cost[(fuller > allowed).any(1)] = np.inf
        if np.isfinite(cost).any():
            parts[film] = np.lexsort((taken.sum(1) * spread, cost))[0]
            taken[parts[film]] = fuller[parts[film]]
    share = ((taken - even) / whole).round(9)
    return parts, np.stack([np.abs(share).max(1), share.max(1)], 1)


def _most_held_out(clips: np.ndarray) -> np.ndarray:
    """How many clips of each class a part may hold: less than a third, or the smallest film where that is more."""
    whole = _whole(clips)
    possible = clips[((clips < whole) | (clips == 0)).all(1)]  # films that are not all of a class
    smallest = np.where(possible > 0, possible, whole).min(0, initial=whole.max())
    allowed = np.where(smallest < whole, np.maximum(smallest, (whole - 1) // 3), 0)
    # Films that are small in one class and large in another may leave none.
    return allowed if (clips <= allowed).all(1).any() else whole - 1
