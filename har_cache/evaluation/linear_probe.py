"""Linear probes: logistic regression on the mean embedding of each clip, which knows nothing of order; and on that and
the first moment in time, which knows in what direction a clip goes, and nothing else of order.
"""

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from ..progress import Progress
from ..statistics.intervals import accuracy_interval
from ..training.batches import Sequences
from .results import LinearProbe

_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_DEFAULT = 0.01


class ProbeOutcome(NamedTuple):
    """The predicted classes, int64 (clips), and the inverse regularisation strength C."""

    predicted: np.ndarray
    strength: float

    def figures(self, true: np.ndarray, films: Sequence[str]) -> LinearProbe:
        """Its accuracy; of each clip the true class, int (clips), and the film."""
        correct = self.predicted == true
        return LinearProbe(float(correct.mean()), accuracy_interval(correct, films), self.strength)


def moments(sequences: Sequences) -> np.ndarray:
    """float32 (clips, 2 dim): of each clip the mean embedding, over frames and views, then the first moment in time,
    the mean of each embedding times its place, -1 for the first frame to 1 for the last; 0 for a clip of one frame.
    """
    bounds = itertools.pairwise(sequences.offsets.tolist())
    found = [_moments(sequences.embeddings[:, start:end]) for start, end in bounds]
    return torch.stack(found).cpu().numpy()


def _moments(embeddings: Tensor) -> Tensor:
    """float16 (views, frames, dim) -> float32 (2 dim)."""
    frames = embeddings.shape[1]
    places = torch.linspace(-1, 1, frames, device=embeddings.device) if frames > 1 else embeddings.new_zeros(1).float()
    first = (embeddings.mean(0, dtype=torch.float32) * places[:, None]).mean(0)
    return torch.cat([embeddings.mean((0, 1), dtype=torch.float32), first])


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    test: np.ndarray,
    refit: bool = False,
    progress: Progress = Progress(),
) -> ProbeOutcome | None:
    """The classes that the probe predicts for the `test` clips.

    features: float32 (clips, any number); labels: int (clips); train, val, test: indices of clips. C is picked on
    `val`, as the head's best epoch is; with `refit` the probe then learns from those clips too. None where `train`
    holds fewer than two classes.
    """
    if len(np.unique(labels[train])) < 2:
        return None

    strengths = _STRENGTHS if len(val) else (_DEFAULT,)
    # Matrices this small are solved faster on one thread, and much faster where other work keeps the cores busy.
    with threadpool_limits(1), progress.task("Fitting a linear probe", "fit", len(strengths)):
        models, hits = {}, {}
        for strength in strengths:
            models[strength] = _fit(features[train], labels[train], strength)
            hits[strength] = models[strength].score(features[val], labels[val]) if len(val) else 0.0
            progress.advance()
        best = max(strengths, key=lambda strength: (hits[strength], -strength))
        both = np.concatenate([train, val])
        model = _fit(features[both], labels[both], best) if refit else models[best]
        return ProbeOutcome(model.predict(features[test]), best)


def _fit(features: np.ndarray, labels: np.ndarray, strength: float) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    with warnings.catch_warnings():
        # Where a weak penalty has not converged, the figure is that of a model stopped early.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)
