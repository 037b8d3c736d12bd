import numpy as np

from har_cache.evaluation.linear_probe import linear_on_mean


def test_a_linear_classifier_finds_what_the_mean_holds():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    means = (np.eye(3)[labels] * 3 + rng.standard_normal((120, 3))).astype(np.float32)
    train, val, test = (np.flatnonzero(np.arange(120) % 4 == part) for part in (0, 1, 2))
    predicted, strength = linear_on_mean(means, labels, train, val, test)
    assert (predicted == labels[test]).mean() > 0.8
    assert strength > 0
    assert linear_on_mean(means, labels, train, val[:0], test) is not None
    assert linear_on_mean(means, labels, train[:5], val, test) is None
