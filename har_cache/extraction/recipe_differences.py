"""Differences between what is asked for and the recipe of an existing cache.

torch is imported only where files have to be read.
"""

from typing import Any

from ..cache.recipe import Recipe
from ..devices import kind_of
from ..settings import NAMED_PROJECTIONS, NAMED_WEIGHTS, ExtractSettings
from ..video.sampling import Sampling

_ALL = "every one"


def differences(settings: ExtractSettings, recipe: Recipe) -> dict[str, str]:
    """In what settings differ from the recipe of an existing cache, by field: `field: cached (asked: other)`. `auto`
    fits anything, and one GPU is as good as another. Raises WeightsError where a file of weights cannot be read.
    """
    cached = {**vars(recipe), "views": ",".join(recipe.views), "frames": recipe.frames or _ALL}
    asked: dict[str, Any] = {
        "weights": settings.weights,
        "projection": settings.projection or "pca",
        "views": ",".join(settings.views),
        "precision": recipe.precision if settings.precision == "auto" else settings.precision,
        "decoder": settings.decoder,
        "device": recipe.device if settings.device == "auto" else kind_of(settings.device),
        "seed": settings.seed,
        "frames": Sampling(settings.every, settings.fps).text or _ALL,
    }
    weights = None
    if settings.weights not in NAMED_WEIGHTS:
        from .prepare import find

        weights = find(settings.weights, settings.seed)
        asked |= {"weights": weights.name, "weights_sha256": weights.sha256}
    if weights or settings.projection not in (None, *NAMED_PROJECTIONS):
        from .prepare import given_projection

        if given := given_projection(settings.projection, weights):
            asked |= {"projection": given.name, "projection_fit": given.fit}
    for name, origin in (("weights", "weights_sha256"), ("projection", "projection_fit")):
        if asked[name] != cached[name]:
            asked.pop(origin, None)  # that it is another one then goes without saying
    return {
        name: f"{name}: {cached[name]} (asked: {asked[name]})"
        for name in cached
        if name in asked and asked[name] != cached[name]
    }
