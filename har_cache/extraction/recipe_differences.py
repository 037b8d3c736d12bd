"""Differences between what is asked for and the recipe of an existing cache.

torch is imported only where files have to be read.
"""

from typing import Any

from ..cache.recipe import Recipe
from ..devices import kind_of
from ..settings.extraction import ExtractSettings
from ..settings.names import DIM, NAMED_PROJECTIONS, NAMED_WEIGHTS, NATIVE, NO_PROJECTION_NAME
from ..video.sampling import Sampling

_ALL = "every one"


def differences(settings: ExtractSettings, recipe: Recipe) -> dict[str, str]:
    """In what settings differ from the recipe of an existing cache, by field: `field: cached (asked: other)`. `auto`
    fits anything, and one GPU is as good as another. Raises WeightsError where a file of weights cannot be read.
    """
    native = recipe.projection.partition(",")[0] == NO_PROJECTION_NAME
    in_words = {"dim": NATIVE if native else str(recipe.dim), "frames": recipe.frames or _ALL}
    cached = {**vars(recipe), "views": ",".join(recipe.views), **in_words}
    asked: dict[str, Any] = {
        "model": settings.encoder,
        "weights": settings.named_weights,
        "projection": NO_PROJECTION_NAME if settings.dim == NATIVE else settings.projection or "pca",
        "dim": settings.dim or str(DIM),
        "views": ",".join(settings.views),
        "precision": recipe.precision if settings.precision == "auto" else settings.precision,
        "decoder": settings.decoder,
        "device": recipe.device if settings.device == "auto" else kind_of(settings.device),
        "seed": settings.seed,
        "frames": Sampling(settings.every, settings.fps).text or _ALL,
    }
    weights = None
    if settings.weights not in NAMED_WEIGHTS and settings.encoder == recipe.model:
        from .given import dim_of, find

        weights = find(settings)
        asked |= {"weights": weights.name, "weights_sha256": weights.sha256}
        asked["dim"] = str(dim_of(settings, weights) or NATIVE)
        if asked["dim"] == NATIVE:
            asked["projection"] = NO_PROJECTION_NAME
    if weights or settings.projection not in (None, *NAMED_PROJECTIONS):
        from .given import given_projection

        if given := given_projection(settings, weights):
            asked |= {"projection": given.name, "projection_fit": given.fit}
    for name, origin in (("weights", "weights_sha256"), ("projection", "projection_fit")):
        if asked[name] != cached[name]:
            asked.pop(origin, None)  # that it is another one then goes without saying
    return {
        name: f"{name}: {cached[name]} (asked: {asked[name]})"
        for name in cached
        if name in asked and asked[name] != cached[name]
    }
