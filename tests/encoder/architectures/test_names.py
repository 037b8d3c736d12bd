import sys

import pytest

from har_cache.encoder.architectures.names import architecture
from har_cache.errors import SettingError


@pytest.fixture(autouse=True)
def nothing_known():
    architecture.cache_clear()


def refusal(name):
    with pytest.raises(SettingError) as caught:
        architecture(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_is_told_with_those_near_to_it_and_where_all_of_them_are():
    said = refusal("resnet19")
    assert said.startswith("encoder resnet19: torchvision has no classification model of this name; near to it: ")
    assert "resnet18" in said and "https://" in said
    assert "near" not in refusal("zzzzzz")
    assert "no classification model" in refusal("fcn_resnet50")  # one of torchvision's, for segmentation


def test_a_model_whose_last_layer_no_projection_can_replace_is_refused():
    assert "its last layer is no Linear" in refusal("squeezenet1_1")


def test_without_timm_the_extra_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install timm" in refusal("timm:vit_tiny_patch16_224")


def test_an_unknown_name_of_timm_is_told_with_those_near_to_it():
    pytest.importorskip("timm")
    said = refusal("timm:vit_small_patch14_dinov3")
    assert "timm has no" in said and "timm:vit_small_patch14_dinov2" in said and "list_models" in said


def test_the_default_is_mnasnet():
    assert (architecture().name, architecture().features, architecture().classifier) == (
        "mnasnet0_5",
        1280,
        "classifier",
    )
