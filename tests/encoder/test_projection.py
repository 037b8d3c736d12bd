import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import nn

from har_cache.cache.recipe import EMBEDDING
from har_cache.encoder.folded import FEATURES
from har_cache.encoder.projection import fit_pca, random_projection
from har_cache.errors import HarCacheError


def features(frames, seed=0):
    """Pooled features, as a network makes them: not negative, and with a few strong directions."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((frames, 40)) @ rng.standard_normal((40, FEATURES))
    return np.maximum(mixed + rng.standard_normal((frames, FEATURES)), 0).astype(np.float32)


def project(projection, x):
    weight, bias = (tensor.double().numpy() for tensor in projection)
    return x.astype(np.float64) @ weight.T + bias


@pytest.mark.parametrize("frames", [2, 20, 257, 400])
def test_embeddings_of_the_fitted_frames_have_mean_zero_and_unit_average_variance(frames):
    x = features(frames)
    embedded = project(fit_pca(x), x)
    np.testing.assert_allclose(embedded.mean(0), 0, atol=1e-3)
    assert embedded.var(0, ddof=1).mean() == pytest.approx(1, rel=1e-3)


def test_it_is_scikit_learns_pca_up_to_one_scale():
    x = features(400)
    with threadpool_limits(1):
        reference = PCA(EMBEDDING, svd_solver="full").fit_transform(x.astype(np.float64))
    embedded = project(fit_pca(x), x)
    reference /= np.sqrt(reference.var(0, ddof=1).mean())
    strong = slice(0, 40)  # components of about equal variance may be rotated among themselves
    signs = np.sign((reference[:, strong] * embedded[:, strong]).sum(0))
    np.testing.assert_allclose(embedded[:, strong] * signs, reference[:, strong], atol=1e-3)


@pytest.mark.parametrize("frames", [2, 20, 256, 257, 400])
def test_the_basis_is_whole_and_orthogonal_however_few_frames_there_are(frames):
    weight, bias = fit_pca(features(frames))
    assert weight.shape == (EMBEDDING, FEATURES)
    assert bias.shape == (EMBEDDING,)
    assert weight.dtype == bias.dtype == torch.float32
    basis = weight.double() / weight.double().norm(dim=1).mean()
    torch.testing.assert_close(basis @ basis.T, torch.eye(EMBEDDING, dtype=torch.float64), rtol=0, atol=1e-5)


def test_the_fitted_frames_do_not_vary_in_the_directions_that_fill_up_the_basis():
    x = features(20)
    embedded = project(fit_pca(x), x)
    assert embedded[:, :19].var(0).min() > 1
    np.testing.assert_allclose(embedded[:, 19:], 0, atol=1e-3)


@pytest.mark.parametrize("frames", [20, 400])
def test_the_same_frames_give_the_same_bytes(frames):
    first, second = fit_pca(features(frames)), fit_pca(features(frames))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("x", [np.ones((1, FEATURES), np.float32), np.ones((300, FEATURES), np.float32)])
def test_frames_that_do_not_differ_are_refused(x):
    with pytest.raises(HarCacheError, match=r"at least 2 different frames.*--projection random"):
        fit_pca(x)


def test_random_projection_is_the_untrained_linear_of_its_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        linear = nn.Linear(FEATURES, EMBEDDING)
    weight, bias = random_projection(7)
    assert torch.equal(weight, linear.weight)
    assert torch.equal(bias, linear.bias)
    assert not weight.requires_grad
    assert not torch.equal(weight, random_projection(8)[0])


def test_random_projection_leaves_the_random_state_alone():
    torch.rand(3)  # a state that no seed has just set
    before = torch.random.get_rng_state()
    random_projection(7)
    assert torch.equal(torch.random.get_rng_state(), before)
