import io

import pytest
import torch
from torch import nn

from har_cache.exporting.rnn import onnx_translations, to_aten, traceable
from har_cache.model.head import RNNS, BidirectionalRNN, Head
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.settings import CELLS, HeadSettings

from ..model.test_head import padded

AXES = {0: torch.export.Dim("batch"), 1: torch.export.Dim("frames")}
# Shapes: (clips, frames); the first is the one that is traced.
OTHERS = ([4, 2], [1], [9], [3, 11, 7])


def make_network(cell: str, layers: int) -> CNNBidirectionalRNN:
    """Embeddings in place of frames, to be quick."""
    torch.manual_seed(1)
    head = Head(3, HeadSettings(cell=cell, hidden=6, layers=layers, width=8))
    return CNNBidirectionalRNN(nn.Identity(), head).eval()


def trace(network: CNNBidirectionalRNN) -> torch.export.ExportedProgram:
    embeddings, mask = padded([4, 2], 4)
    with torch.no_grad():
        return torch.export.export(network, (embeddings.float(), mask), dynamic_shapes={"frames": AXES, "mask": AXES})


@pytest.mark.parametrize(("cell", "layers"), [("gru", 2), ("lstm", 2), ("rnn", 1)])
def test_any_number_of_clips_and_frames_gives_the_eager_logits_in_both_formats(cell: str, layers: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = make_network(cell, layers)
    program = trace(traceable(network, cell))
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


@pytest.mark.parametrize("cell", CELLS)
def test_the_traceable_copy_gives_the_same_and_leaves_the_original_alone(cell: str) -> None:
    network = make_network(cell, 2)
    copy = traceable(network, cell)
    embeddings, mask = padded([5, 3], 6)
    with torch.no_grad():
        torch.testing.assert_close(copy(embeddings, mask), network(embeddings, mask), rtol=0, atol=1e-6)
    for layer in network.head.layers:
        assert isinstance(layer, BidirectionalRNN) and isinstance(layer.forwards, RNNS[cell])
