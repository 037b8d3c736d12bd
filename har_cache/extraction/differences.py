"""What is asked for against the recipe of an existing cache. torch is imported only where files have to be read."""

from typing import TYPE_CHECKING

from ..cache.recipe import Recipe
from ..settings import NAMED_PROJECTIONS, NAMED_WEIGHTS, ExtractSettings

if TYPE_CHECKING:
    from ..encoder.weights import Weights


def differences(settings: ExtractSettings, recipe: Recipe) -> list[str]:
    """In what settings differ from the recipe of an existing cache: `field: cached (asked: other)`. `auto` fits
    anything. Raises WeightsError where a file of weights cannot be read.
    """
    weights = None
    if settings.weights not in NAMED_WEIGHTS:
        from .prepare import find

        weights = find(settings.weights, settings.seed)
    name, digest = (weights.name, weights.sha256) if weights else (settings.weights, recipe.weights_sha256)
    projection, fit = _projection(settings, weights, recipe)
    pairs = {
        "weights": (recipe.weights, name),
        "weights_sha256": (recipe.weights_sha256, digest if name == recipe.weights else recipe.weights_sha256),
        "projection": (recipe.projection, projection),
        "projection_fit": (recipe.projection_fit, fit if projection == recipe.projection else recipe.projection_fit),
        "views": (",".join(recipe.views), ",".join(settings.views)),
        "precision": (recipe.precision, recipe.precision if settings.precision == "auto" else settings.precision),
        "decoder": (recipe.decoder, settings.decoder),
        "device": (recipe.device, settings.device),
        "seed": (recipe.seed, settings.seed),
    }
    return [f"{field}: {cached} (asked: {asked})" for field, (cached, asked) in pairs.items() if cached != asked]


def _projection(settings: ExtractSettings, weights: "Weights | None", recipe: Recipe) -> tuple[str, str]:
    """The name of the projection that is asked for, and what it was fitted on."""
    if weights or settings.projection not in (None, *NAMED_PROJECTIONS):
        from .prepare import given_projection

        if given := given_projection(settings.projection, weights):
            return given.name, given.fit
    return settings.projection or "pca", recipe.projection_fit
