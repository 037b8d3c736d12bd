"""The recipe: all that determines an embedding. Its fingerprint ties shards, cache and trained heads together."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CacheError
from ..storage.parsing import parse

SCHEMA = "har-cache/1"
MODEL = "mnasnet0_5"
FEATURES = 1280
EMBEDDING = 256
_OPTIONAL = "trained_split"


@dataclass(frozen=True)
class Recipe:
    """All that determines an embedding, as written into the manifest.

    `weights` and `projection` say where the encoder came from, `encoder_sha256` what it became: the sha256 of
    `encoder.safetensors`. `faithfulness` is the lowest centred cosine to fp32 on the probe, to four decimals.
    `trained_split` is the split on whose training list the encoder was fine-tuned, None for one that saw no labels.
    """

    weights: str
    weights_sha256: str
    projection: str
    projection_fit: str
    encoder_sha256: str
    transform: str
    views: tuple[str, ...]
    precision: str
    faithfulness: float
    decoder: str
    device: str
    seed: int
    schema: str = SCHEMA
    model: str = MODEL
    dim: int = EMBEDDING
    trained_split: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; without `trained_split` where it is None, as before there was such a thing."""
        fields = {**dataclasses.asdict(self), "views": list(self.views)}
        return {name: value for name, value in fields.items() if (name, value) != (_OPTIONAL, None)}

    @classmethod
    def from_dict(cls, content: Any) -> "Recipe":
        """The reverse of `to_dict`. Raises CacheError on a recipe of another version of har-cache, or none at all."""
        fields = content if isinstance(content, Mapping) else {}
        known = {field.name for field in dataclasses.fields(cls)}
        if {*fields, _OPTIONAL} != known or fields["schema"] != SCHEMA:
            raise CacheError(
                f"recipe of schema {fields.get('schema')!r}: this version reads {SCHEMA}; extract into a new directory"
            )
        recipe = parse(cls, fields, "recipe")
        if (recipe.model, recipe.dim) != (MODEL, EMBEDDING) or not recipe.views:
            raise CacheError(
                f"recipe of {len(recipe.views)} views by {recipe.model!r}, {recipe.dim} dimensions: this version knows "
                f"{MODEL}, {EMBEDDING} dimensions"
            )
        return recipe

    def canonical(self) -> str:
        """Canonical JSON: the same text for the same recipe."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
