"""Linear probe: logistic regression on the mean embedding of each clip, which knows nothing of order."""

import itertools
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ..progress import Progress
from ..training.batches import Sequences

_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_DEFAULT = 0.01


def mean_embeddings(sequences: Sequences) -> np.ndarray:
    """float32 (clips, 256): the mean over each clip's frames and views."""
    bounds = itertools.pairwise(sequences.offsets.tolist())
    means = [sequences.embeddings[:, start:end].mean((0, 1), dtype=torch.float32) for start, end in bounds]
    return torch.stack(means).cpu().numpy()


def linear_on_mean(
    means: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    test: np.ndarray,
    progress: Progress = Progress(),
) -> tuple[np.ndarray, float] | None:
    """The classes that the probe predicts for the `test` clips, int64 (n), and its inverse regularisation strength C.

    means: float32 (clips, 256); labels: int (clips); train, val, test: indices of clips. C is picked on `val`, as the
    head's best epoch is. None where `train` holds fewer than two classes.
    """
    if len(np.unique(labels[train])) < 2:
        return None

    strengths = _STRENGTHS if len(val) else (_DEFAULT,)
    # Matrices this small are solved faster on one thread, and much faster where other work keeps the cores busy.
    with threadpool_limits(1), progress.task("Fitting the linear probe", "fit", len(strengths)):
        models, hits = {}, {}
        for strength in strengths:
            models[strength] = _fit(means[train], labels[train], strength)
            hits[strength] = models[strength].score(means[val], labels[val]) if len(val) else 0.0
            progress.advance()
        best = max(strengths, key=lambda strength: (hits[strength], -strength))
        return models[best].predict(means[test]), best


def _fit(means: np.ndarray, labels: np.ndarray, strength: float) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    with warnings.catch_warnings():
        # Where a weak penalty has not converged, the figure is that of a model stopped early.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(means, labels)
