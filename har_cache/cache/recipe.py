"""The recipe: all that determines an embedding. Its fingerprint ties shards, cache and trained heads together."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CacheError
from ..storage.parsing import parse

SCHEMA, SCHEMA_1 = "har-cache/2", "har-cache/1"  # the first one had no timestamps, and one encoder alone
SCHEMAS = (SCHEMA, SCHEMA_1)
MODEL = "mnasnet0_5"
EMBEDDING = 256
MOST_DIMENSIONS = 1 << 16
_OPTIONAL = ("trained_split", "frames", "origin")  # written only where there is something to say
_OPTIONAL_1 = ("trained_split",)


@dataclass(frozen=True)
class Recipe:
    """All that determines an embedding, as written into the manifest.

    `weights` and `projection` say where the encoder came from, `encoder_sha256` what it became: the sha256 of
    `encoder.safetensors`. `faithfulness` is the lowest centred cosine to fp32 on the probe, to four decimals.
    `trained_split` is the split on whose training list the encoder was fine-tuned, None for one that saw no labels.
    `frames` says which frames of a clip are embedded, as `Sampling` has it, None for every one; `origin` where
    embeddings come from that another tool made, None for those of an encoder.
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
    frames: str | None = None
    origin: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; without optional fields that are None, as before there were such things."""
        fields = {**dataclasses.asdict(self), "views": list(self.views)}
        return {name: value for name, value in fields.items() if value is not None or name not in _OPTIONAL}

    @classmethod
    def from_dict(cls, content: Any) -> "Recipe":
        """The reverse of `to_dict`. Raises CacheError on a recipe of another version of har-cache, or none at all."""
        fields = content if isinstance(content, Mapping) else {}
        known = {field.name for field in dataclasses.fields(cls)} - set(_OPTIONAL)
        schema = fields.get("schema")
        optional = _OPTIONAL_1 if schema == SCHEMA_1 else _OPTIONAL
        if schema not in SCHEMAS or set(fields) - set(optional) != known:
            reads = " and ".join(SCHEMAS)
            raise CacheError(f"recipe of schema {schema!r}: this version reads {reads}; extract into a new directory")
        recipe = parse(cls, fields, "recipe")
        if not recipe.views or not 0 < recipe.dim <= MOST_DIMENSIONS:
            raise CacheError(f"recipe of {len(recipe.views)} views, {recipe.dim} dimensions: expected one or more")
        if schema == SCHEMA_1 and (recipe.model, recipe.dim) != (MODEL, EMBEDDING):
            raise CacheError(
                f"recipe by {recipe.model!r}, {recipe.dim} dimensions: {SCHEMA_1} has {MODEL}, {EMBEDDING}"
            )
        return recipe

    def canonical(self) -> str:
        """Canonical JSON: the same text for the same recipe."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
