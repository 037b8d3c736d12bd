"""The plain way to embed a clip, that the fast one is compared with: PyAV, torchvision's transform, eager fp32."""

from collections import OrderedDict
from pathlib import Path

import av
import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import MNASNet, MNASNet0_5_Weights, mnasnet0_5
from torchvision.transforms.functional import resize

from har_cache import FeatureCache

_BATCH = 16


def plain_model(encoder: Path) -> MNASNet:
    """torchvision's own network with the weights of an `encoder.safetensors`."""
    model = mnasnet0_5(weights=None)
    model.classifier = nn.Linear(1280, 256)
    state = OrderedDict(safetensors.torch.load_file(encoder))
    state._metadata = {"": {"version": 2}}  # torchvision refuses a state dict of no version
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.inference_mode()
def plain_embeddings(video: Path, model: MNASNet, view: str = "center", every: int = 1) -> Tensor:
    """One row for each frame that PyAV decodes, or each `every`-th, one after another: float32 (frames, 256)."""
    transform = MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
    with av.open(str(video.absolute()), metadata_errors="replace") as container:
        frames = [torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in container.decode(video=0)]
    frames = frames[::every]
    if view == "full":
        frames = [resize(frame, [224, 224], antialias=True) for frame in frames]
        transform.resize_size = [224]  # which leaves them as they are
    crops = torch.stack([transform(frame) for frame in frames])
    return torch.cat([model(batch) for batch in (crops.flip(-1) if view == "flip" else crops).split(_BATCH)])


def least_faithful(cache: FeatureCache, reference: dict[str, Tensor], view: int = 0, every: int = 1) -> float:
    """The lowest centred cosine of any frame of the cache to `reference`, which has each `every`-th of all clips."""
    taken = {key: cache[key][view, ::every] for key in cache}
    assert {key: len(rows) for key, rows in taken.items()} == {key: len(rows) for key, rows in reference.items()}
    expected = torch.cat([reference[key] for key in taken])
    found = torch.from_numpy(np.concatenate(list(taken.values()))).float()
    mean = expected.mean(0)
    return float(torch.cosine_similarity(found - mean, expected - mean).min())
