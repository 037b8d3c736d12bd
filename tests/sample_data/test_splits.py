import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.sample_data.plan import MIN_CLIPS
from har_cache.sample_data.splits import deal


@given(
    counts=st.lists(st.integers(1, 9), min_size=4, max_size=30).filter(lambda counts: sum(counts) >= MIN_CLIPS),
    shared=st.sets(st.integers(0, 30)),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_splits_mean_what_those_of_hmdb51_mean(counts: list[int], shared: set[int], seed: int) -> None:
    sources = [source for source, count in enumerate(counts) for _ in range(count)]
    splits = deal(sources, np.random.default_rng(seed), shared)
    assert len(splits) == 3
    for subset in splits:
        trained, tested = ({s for s, which in zip(sources, subset, strict=True) if which == k} for k in (1, 2))
        assert trained and tested and trained.isdisjoint(tested)
        assert subset.count(2) <= len(sources) / 3
        assert len(subset) == len(sources)


def test_splits_of_the_default_size_have_the_proportions_of_hmdb51() -> None:
    sources = np.repeat(range(27), 3)[:80].tolist()
    splits = np.array(deal(sources, np.random.default_rng(0)))
    assert ((splits == 2).sum(1) == 20).all()
    assert ((splits == 1).sum(1) == 46).all()
    assert 0.3 < (splits != 2).all(0).mean() < 0.45
    assert len(np.unique(splits, axis=0)) == 3


def test_shared_sources_are_tested() -> None:
    sources = np.repeat(range(27), 3).tolist()
    shared = range(0, 27, 3)
    splits = np.array(deal(sources, np.random.default_rng(0), shared))
    tested = {source for source, dealt in zip(sources, splits.T, strict=True) if 2 in dealt}
    assert tested > set(shared)
