"""Tables of an evaluation that not every one has: what linear probes predict, and all probabilities."""

from collections.abc import Sequence

import numpy as np

from ..storage.files import to_csv
from .linear_probe import ProbeOutcome
from .metrics import ScoredClips
from .tables import LINEAR_HEADER, probability_column


def linear_table(scored: ScoredClips, linear: Sequence[ProbeOutcome | None]) -> bytes:
    """linear.csv: the class that each probe predicts for each clip."""
    by_probe = [[scored.classes[i] for i in probe.predicted] if probe else [""] * len(scored.keys) for probe in linear]
    return to_csv(LINEAR_HEADER, zip(scored.keys, *by_probe, strict=True))


def probabilities_table(scored: ScoredClips, found: np.ndarray) -> bytes:
    """probabilities.csv: all of them, float (clips, classes), exactly, as `har-cache score` reads them."""
    header = ("key", "predicted", *map(probability_column, scored.classes))
    rows = zip(scored.predictions(), found.astype(np.float64).tolist(), strict=True)
    return to_csv(header, [(p.key, p.predicted, *map(repr, each)) for p, each in rows])
