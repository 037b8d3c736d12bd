import numpy as np
import pytest
import torch

from har_cache.cache.reader import FeatureCache
from har_cache.evaluation.linear_probe import linear_probe, moments
from har_cache.training.batches import Sequences

from ..helpers.caches import action_embeddings, write_cache


def test_a_linear_classifier_finds_what_the_mean_holds():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    means = (np.eye(3)[labels] * 3 + rng.standard_normal((120, 3))).astype(np.float32)
    train, val, test = (np.flatnonzero(np.arange(120) % 4 == part) for part in (0, 1, 2))
    predicted, strength = linear_probe(means, labels, train, val, test)
    assert (predicted == labels[test]).mean() > 0.8
    assert strength > 0
    assert linear_probe(means, labels, train, val[:0], test) is not None
    assert linear_probe(means, labels, train[:5], val, test) is None


def test_a_probe_learns_from_validation_clips_only_where_it_is_fitted_again():
    features, labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]], np.array([0, 1, 2, 0, 1, 2])
    train, val, test = np.array([0, 1]), np.array([2]), np.array([3, 4, 5])
    assert 2 not in linear_probe(features, labels, train, val, test).predicted
    assert linear_probe(features, labels, train, val, test, refit=True).predicted.tolist() == [0, 1, 2]


def test_moments_done_by_hand(tmp_path):
    """A clip of three frames and two views, and one of a single frame."""
    three = np.array([[1, 2, 6], [3, 0, 0]], np.float16)[..., None].repeat(256, 2)
    one = np.array([[5], [7]], np.float16)[..., None].repeat(256, 2)
    write_cache(tmp_path / "cache", {"a/x.avi": three, "a/y.avi": one}, views=("center", "flip"))
    found = moments(Sequences.from_cache(FeatureCache(tmp_path / "cache"), "cpu"))
    assert (found.shape, found.dtype) == ((2, 512), np.float32)
    np.testing.assert_allclose(found[:, [0, 255]], [[2, 2], [6, 6]])  # the mean of 2, 1 and 3
    np.testing.assert_allclose(found[:, [256, 511]], [[1 / 3] * 2, [0, 0]], atol=1e-6)  # (3 - 2) / 3


def test_a_clip_backwards_has_the_opposite_first_moment(tmp_path):
    clip = torch.randn(1, 9, 256).half().numpy()
    write_cache(tmp_path / "cache", {"a/x.avi": clip, "a/y.avi": clip[:, ::-1]})
    forwards, backwards = moments(Sequences.from_cache(FeatureCache(tmp_path / "cache"), "cpu"))
    np.testing.assert_allclose(backwards[:256], forwards[:256], atol=1e-6)
    np.testing.assert_allclose(backwards[256:], -forwards[256:], atol=1e-6)


@pytest.mark.parametrize(("width", "at_least", "at_most"), [(256, 0.0, 0.6), (512, 0.95, 1.0)])
def test_the_first_moment_tells_directions_apart_and_the_mean_does_not(tmp_path, width, at_least, at_most):
    write_cache(tmp_path / "cache", action_embeddings(sources=12))
    cache = FeatureCache(tmp_path / "cache")
    features = moments(Sequences.from_cache(cache, "cpu"))[:, :width]
    train, val, test = (np.flatnonzero(cache.subsets[:, split] == 2) for split in range(3))
    predicted, _ = linear_probe(features, cache.labels, train, val, test)
    assert at_least <= (predicted == cache.labels[test]).mean() <= at_most
