"""Weights and projections that are there already, as settings of an extraction name them."""

from dataclasses import dataclass
from pathlib import Path

from ..encoder.architectures.architecture import Pair
from ..encoder.architectures.names import architecture
from ..encoder.weights import Weights, find_weights, tensors_sha256
from ..errors import HarCacheError, WeightsError
from ..model.load import run_weights
from ..settings.extraction import ExtractSettings
from ..settings.names import NAMED_PROJECTIONS, NAMED_WEIGHTS, NO_PROJECTION_NAME


@dataclass(frozen=True)
class Projection:
    """weight (dim, features) and bias (dim), None where features are the embeddings; and for the recipe: where they
    came from.
    """

    tensors: Pair | None
    name: str
    fit: str


NO_PROJECTION = Projection(None, NO_PROJECTION_NAME, "")


def find(settings: ExtractSettings) -> Weights:
    """The weights that are asked for: `imagenet`, `random`, a file, or the directory of a run. Raises HarCacheError."""
    wanted, path = settings.named_weights, Path(settings.weights)
    if wanted not in NAMED_WEIGHTS and path.is_dir():
        return run_weights(path, settings.encoder)
    return find_weights(wanted, settings.seed, settings.encoder, settings.wanted_dim)


def dim_of(settings: ExtractSettings, weights: Weights) -> int | None:
    """How many numbers an embedding is to have: what is asked for, else what the weights bring; None for as many as
    there are features.
    """
    if settings.dim is None and settings.projection is None:
        if weights.native:
            return None
        if weights.projection:
            return len(weights.projection[0])
    return settings.wanted_dim


def given_projection(settings: ExtractSettings, weights: Weights | None) -> Projection | None:
    """The projection in the file that is asked for; where none is, that of the weights, if it is of the dimensions that
    are asked for; None where there is neither.

    Raises HarCacheError where such a file holds no projection.
    """
    asked = settings.projection
    if asked is None and weights and weights.projection:
        weight, _ = weights.projection
        if settings.dim and len(weight) != settings.wanted_dim:
            return None
        fit = weights.projection_fit or _projection_sha256(weights.projection, settings.encoder)
        return Projection(weights.projection, weights.projection_name, fit)
    if asked is None or asked in NAMED_PROJECTIONS:
        return None
    if not Path(asked).is_file():
        raise WeightsError(f"--projection: no such file: {asked} (or one of: {', '.join(NAMED_PROJECTIONS)})")
    dim, features = settings.wanted_dim, architecture(settings.encoder).features
    projection = find_weights(asked, encoder=settings.encoder, dim=dim).projection
    if projection is None:
        raise HarCacheError(f"--projection {asked}: holds no projection (classifier of {dim} x {features})")
    return Projection(projection, "file", _projection_sha256(projection, settings.encoder))


def _projection_sha256(projection: Pair, encoder: str) -> str:
    return tensors_sha256(architecture(encoder).classifier_state(projection))
