from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.data.keys import class_of, film_of, source_of
from har_cache.sample_data.actions import PAIRS
from har_cache.sample_data.plan import LONGEST, MIN_CLIPS, SHORTEST, Performance, plan

DEFAULT_PAIRS, CLIPS = 4, 80


@pytest.fixture(scope="module")
def default() -> list[list[Performance]]:
    """The default sample, pair by pair."""
    return [plan(pair, CLIPS, seed=0) for pair in range(DEFAULT_PAIRS)]


def clips(performances: list[Performance]) -> list[tuple[str, Performance]]:
    return [(name, performance) for performance in performances for name in performance.names]


def test_seed_makes_a_difference() -> None:
    assert {p.names for p in plan(0, 20, 0)}.isdisjoint(p.names for p in plan(0, 20, 1))


def test_a_hard_sample_is_the_same_on_grainier_film() -> None:
    easy, hard = plan(0, 80, seed=0), plan(0, 80, seed=0, hard=True)
    for one, other in zip(easy, hard, strict=True):
        assert other.look.grain == pytest.approx(4 * one.look.grain)
        assert replace(other, look=replace(other.look, grain=one.look.grain)) == one


@given(count=st.integers(MIN_CLIPS, 90), seed=st.integers(0, 2**32))
@settings(max_examples=8)
def test_a_plan_holds_every_clip_once_and_no_split_a_source_twice(count: int, seed: int) -> None:
    names = []
    for pair in range(len(PAIRS)):
        found = clips(plan(pair, count, seed))
        classes = [class_of(name) for name, _ in found]
        assert [classes.count(action.name) for action in PAIRS[pair]] == [count, count]
        names += [name for name, _ in found]
        for k in range(3):
            trained, tested = ({source_of(name) for name, p in found if p.splits[k] == which} for which in (1, 2))
            assert trained and tested and trained.isdisjoint(tested)
    assert len(set(names)) == 2 * count * len(PAIRS)


def test_a_twin_has_the_same_film_length_cut_camera_and_splits(default: list[list[Performance]]) -> None:
    for pair, performances in enumerate(default):
        one, other = (
            sorted(
                (*source_of(name).split("/")[1:], p.seed, p.frames, p.cut or 0, p.moving, p.splits)
                for name, p in clips(performances)
                if class_of(name) == action.name
            )
            for action in PAIRS[pair]
        )
        assert one == other


def test_clips_are_as_long_as_those_of_hmdb51_and_few_are_long(default: list[list[Performance]]) -> None:
    for seed in range(5):
        frames = np.array([p.frames for pair in range(DEFAULT_PAIRS) for _, p in clips(plan(pair, CLIPS, seed))])
        assert SHORTEST <= frames.min() < 22
        assert 200 < frames.max() <= LONGEST
        assert 0 < (frames > 200).mean() < 0.03
        assert 42 < frames.mean() < 48  # what the demo takes


def test_a_fifth_of_the_clips_are_cut(default: list[list[Performance]]) -> None:
    cuts = [p.cut for performances in default for _, p in clips(performances)]
    assert 0.12 < np.mean([cut is not None for cut in cuts]) < 0.28
    assert all(0.3 <= cut <= 0.7 for cut in cuts if cut is not None)


def test_films_serve_several_classes_as_often_as_in_hmdb51(default: list[list[Performance]]) -> None:
    found = [clip for performances in default for clip in clips(performances)]
    for k in range(3):
        trained, tested = ({source_of(name) for name, p in found if p.splits[k] == which} for which in (1, 2))
        films = {film_of(source) for source in trained}
        elsewhere = [film_of(source_of(name)) in films for name, p in found if p.splits[k] == 2]
        assert trained.isdisjoint(tested)
        assert 0.15 < np.mean(elsewhere) < 0.5  # 30 to 35% in HMDB51


def test_a_film_has_the_same_people_in_all_its_clips(default: list[list[Performance]]) -> None:
    people: dict[str, set[object]] = {}
    pairs: dict[str, set[int]] = {}
    for pair, performances in enumerate(default):
        for name, p in clips(performances):
            film = film_of(source_of(name))
            people.setdefault(film, set()).add(replace(p.look, wall=(0, 0, 0), floor=(0, 0, 0)))
            pairs.setdefault(film, set()).add(pair)
    assert {len(looks) for looks in people.values()} == {1}
    assert {len(served) for served in pairs.values()} == {1, 2}


def test_a_room_goes_with_the_class_only_where_no_split_tests(default: list[list[Performance]]) -> None:
    found = [clip for performances in default for clip in clips(performances)]
    tested = {source_of(name) for name, p in found if 2 in p.splits}
    hues: dict[str, set[tuple[int, ...]]] = {}
    rooms: dict[tuple[str, bool], set[tuple[int, ...]]] = {}
    for name, p in found:
        of_test = source_of(name) in tested
        rooms.setdefault((film_of(source_of(name)), of_test), set()).add(p.look.wall)
        if not of_test:
            hues.setdefault(class_of(name), set()).add(_order(p.look.wall))
    assert len(hues) == 2 * DEFAULT_PAIRS
    for (_, of_test), walls in rooms.items():
        assert len(walls) == (1 if of_test else 2)
    spared = [2 not in p.splits and source_of(name) not in tested for name, p in found]
    assert 0.3 < np.mean(spared) < 0.45
    for one, other in ((a.name, b.name) for a, b in PAIRS[:DEFAULT_PAIRS]):
        assert hues[one].isdisjoint(hues[other])


def _order(colour: tuple[int, ...]) -> tuple[int, ...]:
    """The channels from the weakest to the strongest: a sixth of the circle of hues."""
    return tuple(np.argsort(colour, kind="stable").tolist())
