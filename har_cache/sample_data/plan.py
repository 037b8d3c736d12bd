"""Plan of the sample data set, before anything is drawn: who does what, in which film, in clips of which names.

Every clip of a class has a twin in the other class of its pair: of the same film, as long, cut in the same place, on
the same side of every split, and, where the one class is the other played backwards, the very same frames in reverse
order. So whatever ignores the order of frames can tell the pairs apart, but never the two classes of a pair. It seems
to where no split tests: in films that are tested by none, the colour of the room goes with the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .actions import PAIRS, Pose, perform
from .films import film, is_shared, of_class
from .people import Look, draw_frames
from .splits import deal

MIN_CLIPS = 8  # a class with fewer cannot be dealt into three splits that differ
SHORTEST, LONGEST = 18, 400  # frames

_CLIPS_PER_SOURCE = 2.5  # about as in HMDB51
_MEDIAN, _SPREAD = 17, 1.0  # of what clips have beyond the shortest: frames, log-normal
_MOVING = 0.4  # share of clips in which the camera moves
_MOVEMENT, _PICTURES = 2, 3  # what a generator of random numbers is for
_CUT = 0.2  # share of clips that go over to another camera


@dataclass(frozen=True)
class Performance:
    """One movement, painted once, and the clips that it gives: one played forwards, one backwards, or both."""

    source: int  # index within the pair
    splits: tuple[int, ...]  # in each of the three: 1 train, 2 test, 0 unused
    look: Look
    frames: int
    moving: bool  # the camera
    cut: float | None  # where in the clip it goes over to another camera, 0 to 1
    seed: tuple[int, ...]
    movement: str = ""
    forwards: str | None = None  # `<class>/<file name>`
    backwards: str | None = None

    def poses(self) -> list[Pose]:
        """The body in each frame."""
        return perform(self.movement, self.frames, self._rng(_MOVEMENT))

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """Its frames, uint8 (240, 320, 3) each."""
        return draw_frames(self.poses(), self.look, self.moving, self.cut, self._rng(_PICTURES))

    @property
    def names(self) -> tuple[str, ...]:
        """The clips that it gives."""
        return tuple(name for name in (self.forwards, self.backwards) if name is not None)

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed, purpose])


def plan(pair: int, clips: int, seed: int, hard: bool = False) -> list[Performance]:
    """Everything about the `clips` clips of each class of a pair but their pixels, source by source."""
    rng = np.random.default_rng([seed, pair])
    counts = _counts(clips, rng)
    sources = [source for source, count in enumerate(counts) for _ in range(count)]
    shared = [source for source in range(len(counts)) if is_shared(pair, source)]
    splits = np.array(deal(sources, np.random.default_rng([seed, pair, 1]), shared)).T.tolist()
    tested = {source for source, dealt in zip(sources, splits, strict=True) if 2 in dealt}
    lengths = _lengths(clips, rng)
    shots = (shot for count in counts for shot in range(count))
    performances = []
    for source, dealt, frames, shot in zip(sources, splits, lengths, shots, strict=True):
        cut_from = film(pair, source, seed, hard)
        performance = Performance(
            source=source,
            splits=tuple(dealt),
            look=cut_from.look,
            frames=frames,
            moving=bool(rng.random() < _MOVING),
            cut=rng.uniform(0.3, 0.7) if rng.random() < _CUT else None,
            seed=(seed, pair, source, shot),
        )
        performances += _twins(performance, pair, cut_from.title, source not in tested)
    return performances


def _twins(common: Performance, pair: int, title: str, coloured: bool) -> list[Performance]:
    """What gives a clip of either class of a pair: one movement for both, if the two pictures are the same."""
    twins = []
    for side, action in enumerate(PAIRS[pair]):
        look = of_class(common.look, pair, side) if coloured else common.look
        tags = f"f_{'cm' if common.moving else 'nm'}_np1_{look.view}_{look.quality}_{common.seed[-1]}"
        name = f"{action.name}/{title}_{action.name}_{tags}.avi"
        clip = replace(common, movement=action.movement, look=look)
        twins.append(replace(clip, backwards=name) if action.backwards else replace(clip, forwards=name))
    one, other = twins
    if (one.movement, one.look) == (other.movement, other.look):
        return [replace(one, backwards=other.backwards)]
    return twins


def _lengths(clips: int, rng: np.random.Generator) -> list[int]:
    """Frames of each clip: many short ones, few long ones, and much the same in all together whatever the seed."""
    shares = (rng.permutation(clips) + rng.random(clips)) / clips
    beyond = (_MEDIAN * np.exp(_SPREAD * NormalDist().inv_cdf(share)) for share in shares)
    return [min(SHORTEST + round(frames), LONGEST) for frames in beyond]


def _counts(clips: int, rng: np.random.Generator) -> list[int]:
    """Number of clips cut from each source: nearly equal, never none."""
    sources = max(4, round(clips / _CLIPS_PER_SOURCE))
    counts = [clips // sources + (i < clips % sources) for i in range(sources)]
    for i in range(0, sources - 1, 2):
        moved = int(rng.integers(0, 2)) if counts[i + 1] > 1 else 0
        counts[i], counts[i + 1] = counts[i] + moved, counts[i + 1] - moved
    return counts
