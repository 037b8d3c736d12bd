import pytest

from har_cache.encoder.architectures.blocks import blocks
from har_cache.encoder.architectures.names import architecture


def found(name):
    known = architecture(name)
    model = known.undrawn(8 if known.bias else None)
    return model, known, blocks(model, known.classifier)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 9),  # the stem, 8 residual blocks
        ("resnet50", 17),
        ("vit_b_32", 14),  # the patches, 12 blocks, the last norm
        ("convnext_tiny", 26),  # the patches, 18 blocks, 3 norms and 3 convolutions between stages, the last norm
        ("mobilenet_v3_small", 14),  # 13 convolutions and inverted residuals; the hidden layer of its classifier
        ("googlenet", 12),
        ("maxvit_t", 15),
    ],
)
def test_a_model_has_as_many_blocks_as_it_repeats(name, count):
    assert len(found(name)[2]) == count


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "swin_t", "shufflenet_v2_x0_5"])
def test_every_parameter_is_in_one_block_in_the_order_of_the_model(name):
    model, known, row = found(name)
    names = {parameter: name for name, parameter in model.named_parameters()}
    in_blocks = [names[parameter] for block in row for module in block for parameter in module.parameters()]
    assert in_blocks == [name for name in names.values() if not name.startswith(f"{known.classifier}.")]


def test_timms_vision_transformers_are_patches_blocks_and_a_norm():
    pytest.importorskip("timm")
    _, _, row = found("timm:vit_tiny_patch16_224")
    assert [type(block[0]).__name__ for block in row] == ["PatchEmbed", *["Block"] * 12, "LayerNorm"]
