import io

import pytest
import torch
from torch import nn

from har_cache.exporting.rnn import onnx_translations, to_aten, traceable
from har_cache.model.ensemble import HeadEnsemble
from har_cache.model.head import Head
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.model.temporal import RNNS, BidirectionalRNN
from har_cache.settings.training import HeadSettings

from ..model.test_head import padded

AXES = {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}
# Shapes: (clips, frames); the first is the one that is traced.
OTHERS = ([4, 2], [1], [9], [3, 11, 7])


def make_network(cell: str, layers: int, members: int = 1) -> CNNBidirectionalRNN:
    """Embeddings in place of frames, to be quick."""
    torch.manual_seed(1)
    heads = [Head(3, HeadSettings(cell=cell, hidden=6, layers=layers, width=8)) for _ in range(members)]
    return CNNBidirectionalRNN(nn.Identity(), HeadEnsemble(heads, 0.7) if members > 1 else heads[0]).eval()


def trace(network: CNNBidirectionalRNN) -> torch.export.ExportedProgram:
    embeddings, mask = padded([4, 2], 4)
    with torch.no_grad():
        return torch.export.export(network, (embeddings.float(), mask), dynamic_shapes={"frames": AXES, "mask": AXES})


@pytest.mark.parametrize(
    ("cell", "layers", "members"), [("gru", 2, 1), ("lstm", 2, 1), ("rnn", 1, 1), ("conv", 2, 1), ("gru", 1, 3)]
)
def test_any_number_of_clips_and_frames_gives_the_eager_logits_in_both_formats(
    cell: str, layers: int, members: int
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = make_network(cell, layers, members)
    program = trace(traceable(network))
    onnx = torch.onnx.export(
        program, dynamo=True, custom_translation_table=onnx_translations(), input_names=["x", "mask"], verbose=False
    )
    assert onnx is not None
    session = onnxruntime.InferenceSession(onnx.model_proto.SerializeToString())
    file = io.BytesIO()
    torch.export.save(to_aten(program), file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert "har_cache" not in str(loaded.graph)
    for lengths in OTHERS:
        embeddings, mask = padded(lengths, max(lengths) + 1)
        embeddings = embeddings.float()
        with torch.no_grad():
            expected = network(embeddings, mask)
        torch.testing.assert_close(loaded.module()(embeddings, mask), expected, rtol=0, atol=1e-5)
        (found,) = session.run(None, {"x": embeddings.numpy(), "mask": mask.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", RNNS)
def test_the_traceable_copy_gives_the_same_and_leaves_the_original_alone(cell: str) -> None:
    network = make_network(cell, 2)
    copy = traceable(network)
    embeddings, mask = padded([5, 3], 6)
    with torch.no_grad():
        torch.testing.assert_close(copy(embeddings, mask), network(embeddings, mask), rtol=0, atol=1e-6)
    for layer in network.head.layers:
        assert isinstance(layer, BidirectionalRNN) and isinstance(layer.forwards, RNNS[cell])
