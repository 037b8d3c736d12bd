"""The frozen projection from pooled features (1280 of MNASNet) to an embedding, as the weights of a `Linear`."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ..errors import HarCacheError
from ..settings.names import DIM
from .folded import FEATURES


def fit_pca(features: np.ndarray, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """PCA of `features`, float32 (n, features), scaled so that the `dim` components have unit average variance; there
    may not be more of them than features.

    Gives weight (dim, features) and bias (dim,) with `weight @ x + bias` the whitened-on-average projection. With fewer
    frames than components the basis is filled up with directions that the frames do not vary in, so that clips
    seen later are still projected without loss. Raises HarCacheError on frames that are all the same.
    """
    if len(features) < 2 or not np.ptp(features, axis=0).any():
        raise HarCacheError("--projection pca needs at least 2 different frames to fit on; use --projection random")
    with threadpool_limits(1):  # the same bytes whatever the number of cores
        pca = PCA(min(dim, len(features) - 1), svd_solver="covariance_eigh").fit(features.astype(np.float64))
    basis = _filled_up(pca.components_, dim)
    scale = 1.0 / np.sqrt(max(pca.explained_variance_.sum() / dim, np.finfo(np.float64).tiny))
    weight = scale * basis
    return torch.from_numpy(weight).float(), torch.from_numpy(-weight @ pca.mean_).float()


def random_projection(seed: int, features: int = FEATURES, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """An untrained `Linear(features, dim)`, drawn with this seed; `Linear(1280, 256)` is that of the original."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Linear(features, dim)
    return linear.weight.detach(), linear.bias.detach()


def _filled_up(components: np.ndarray, dim: int) -> np.ndarray:
    missing = dim - len(components)
    if not missing:
        return components
    noise = np.random.default_rng(0).standard_normal((missing, components.shape[1]))
    noise -= noise @ components.T @ components
    with threadpool_limits(1):
        extra = np.linalg.qr(noise.T)[0].T
    return np.vstack([components, extra])
