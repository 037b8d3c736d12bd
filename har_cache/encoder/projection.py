"""The frozen projection from 1280 pooled features to a 256-d embedding, as the weights of a `Linear`."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ..cache.recipe import EMBEDDING, FEATURES
from ..errors import HarCacheError


def fit_pca(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """PCA of `features`, float32 (n, 1280), scaled so that the 256 components have unit average variance.

    Gives weight (256, 1280) and bias (256,) with `weight @ x + bias` the whitened-on-average projection. With fewer
    frames than components the basis is filled up with directions that the frames do not vary in, so that clips
    seen later are still projected without loss. Raises HarCacheError on frames that are all the same.
    """
    if len(features) < 2 or not np.ptp(features, axis=0).any():
        raise HarCacheError("--projection pca needs at least 2 different frames to fit on; use --projection random")
    with threadpool_limits(1):  # the same bytes whatever the number of cores
        pca = PCA(min(EMBEDDING, len(features) - 1), svd_solver="covariance_eigh").fit(features.astype(np.float64))
    basis = _filled_up(pca.components_)
    scale = 1.0 / np.sqrt(max(pca.explained_variance_.sum() / EMBEDDING, np.finfo(np.float64).tiny))
    weight = scale * basis
    return torch.from_numpy(weight).float(), torch.from_numpy(-weight @ pca.mean_).float()


def random_projection(seed: int) -> tuple[Tensor, Tensor]:
    """The untrained `Linear(1280, 256)` of the original, drawn with this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Linear(FEATURES, EMBEDDING)
    return linear.weight.detach(), linear.bias.detach()


def _filled_up(components: np.ndarray) -> np.ndarray:
    missing = EMBEDDING - len(components)
    if not missing:
        return components
    noise = np.random.default_rng(0).standard_normal((missing, FEATURES))
    noise -= noise @ components.T @ components
    with threadpool_limits(1):
        extra = np.linalg.qr(noise.T)[0].T
    return np.vstack([components, extra])
