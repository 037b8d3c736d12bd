import dataclasses
import json

import pytest

from har_cache.cache.recipe import Recipe
from har_cache.errors import CacheError

from ..helpers.caches import make_recipe

CHANGES = {
    "weights": "imagenet",
    "weights_sha256": "0" * 64,
    "projection": "random",
    "projection_fit": "",
    "encoder_sha256": "0" * 64,
    "transform": "another",
    "views": ("center", "flip"),
    "precision": "bf16-mixed",
    "faithfulness": 0.9987,
    "decoder": "decord",
    "device": "cuda",
    "seed": 1,
    "schema": "har-cache/1",
    "model": "another",
    "dim": 128,
    "trained_split": 1,
    "frames": "every 2",
    "origin": "features of another tool",
}
OPTIONAL = {"trained_split", "frames", "origin"}
READS = "this version reads har-cache/2 and har-cache/1"


def test_the_fingerprint_never_changes_between_versions():
    # Pinned: if this fails, caches that people have made can no longer be read.
    expected = "68112e5147419ac8293d5498f4ee4072d935efeb218763b74902151fb3276a8c"
    assert make_recipe(schema="har-cache/1").fingerprint == expected
    assert make_recipe().fingerprint == "94db46b202234f5549667b1264dc0c84d74997a9a03a60eb3d0cf632d808ac12"


def test_canonical_json_is_compact_and_sorted():
    text = make_recipe(views=("center", "flip")).canonical()
    fields = json.loads(text)
    assert list(fields) == sorted(fields)
    assert fields["views"] == ["center", "flip"]
    assert ": " not in text
    assert "\n" not in text


def test_every_field_counts():
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(Recipe)}
    recipes = [make_recipe(), *(make_recipe(**{name: value}) for name, value in CHANGES.items())]
    assert len({recipe.fingerprint for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("views", [("center",), ("center", "flip")])
def test_a_recipe_survives_json(views):
    recipe = make_recipe(views=views, faithfulness=0.9987)
    restored = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert restored == recipe
    assert restored.fingerprint == recipe.fingerprint


def test_of_an_encoder_that_saw_no_labels_nothing_is_said():
    assert "trained_split" not in make_recipe().to_dict()
    assert Recipe.from_dict(make_recipe(trained_split=2).to_dict()).trained_split == 2


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - OPTIONAL))
def test_a_recipe_that_lacks_a_field_is_refused(name):
    fields = make_recipe().to_dict()
    del fields[name]
    with pytest.raises(CacheError, match=READS):
        Recipe.from_dict(fields)


def test_a_recipe_with_an_unknown_field_is_refused():
    with pytest.raises(CacheError, match=READS):
        Recipe.from_dict({**make_recipe().to_dict(), "sharpness": 3})


def test_a_recipe_of_another_schema_is_refused_by_its_name():
    with pytest.raises(CacheError, match=f"schema 'har-cache/3': {READS}"):
        Recipe.from_dict(make_recipe(schema="har-cache/3").to_dict())


def test_any_encoder_and_any_number_of_dimensions_are_read():
    recipe = make_recipe(model="resnet18", dim=512, frames="5 fps", origin="another tool")
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("change", [{"dim": 0}, {"dim": 1 << 40}, {"views": ()}])
def test_sizes_that_make_no_sense_are_refused(change):
    with pytest.raises(CacheError, match="expected one or more"):
        Recipe.from_dict(make_recipe(**change).to_dict())


@pytest.mark.parametrize("change", [{"model": "resnet18"}, {"dim": 128}])
def test_the_first_schema_has_one_encoder_alone(change):
    with pytest.raises(CacheError, match="har-cache/1 has mnasnet0_5, 256"):
        Recipe.from_dict(make_recipe(schema="har-cache/1", **change).to_dict())


@pytest.mark.parametrize("change", [{"frames": "every 2"}, {"origin": "another tool"}])
def test_the_first_schema_has_no_fields_of_the_second(change):
    with pytest.raises(CacheError, match="schema 'har-cache/1': this version reads"):
        Recipe.from_dict(make_recipe(schema="har-cache/1", **change).to_dict())


def test_what_is_no_number_cannot_be_written():
    with pytest.raises(ValueError):
        make_recipe(faithfulness=float("nan")).canonical()
