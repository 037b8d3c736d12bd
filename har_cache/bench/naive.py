"""The naive baseline that the pipeline is compared with, as most would write it: PyAV, the library's transform and its
eager fp32 model, one clip after another; in training too, where each clip is decoded and encoded anew in every epoch.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import get_model_weights
from torchvision.transforms.functional import to_pil_image

from ..encoder.architectures.names import architecture
from ..model.head import Head
from ..model.network import CNNBidirectionalRNN
from ..settings.names import DIM, MNASNET, TIMM

_BATCH = 64


class NaiveBaseline:
    """Decode, transform, encode and train, the obvious way, on one device."""

    def __init__(self, device: str, classes: int, encoder: str = MNASNET) -> None:
        self._device = torch.device(device)
        self._transform = library_transform(encoder)
        self._network = CNNBidirectionalRNN(architecture(encoder).drawn(0, DIM), Head(classes)).to(self._device)

    @torch.inference_mode()
    def embed(self, paths: Sequence[Path]) -> tuple[int, float]:
        """Embed whole clips: frames, and the seconds that they took."""
        encoder = self._network.encoder.eval()
        begun, frames = time.perf_counter(), 0
        for path in paths:
            clip = _frames(path)
            for part in clip.split(_BATCH):
                encoder(self._transform(part.to(self._device))).cpu()
            frames += len(clip)
        return frames, time.perf_counter() - begun

    def train(self, paths: Sequence[Path], steps: int) -> float:
        """Train end to end, one clip a step, on so many frames evenly spread over it: seconds a clip."""
        network = self._network.train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        begun = time.perf_counter()
        for path in paths:
            clip = _frames(path)
            clip = clip[torch.linspace(0, len(clip) - 1, steps).long()].to(self._device)
            mask = torch.ones(1, steps, dtype=torch.bool, device=self._device)
            logits = network(self._transform(clip)[None], mask)
            loss = F.cross_entropy(logits, torch.zeros(1, dtype=torch.long, device=self._device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return (time.perf_counter() - begun) / len(paths)


def library_transform(encoder: str) -> Callable[[Tensor], Tensor]:
    """The library's own, of uint8 frames (n, 3, height, width); timm's takes pictures of PIL, one by one."""
    if not encoder.startswith(TIMM):
        of_torchvision: Callable[[Tensor], Tensor] = get_model_weights(encoder).DEFAULT.transforms()
        return of_torchvision
    import timm

    model = timm.create_model(encoder.removeprefix(TIMM))
    of_timm = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return lambda frames: torch.stack([of_timm(to_pil_image(frame.cpu())) for frame in frames]).to(frames.device)


def measure(
    device: str, classes: int, encoder: str, embedded: Sequence[Path], trained: Sequence[Path], steps: int
) -> tuple[float, float]:
    """Frames a second that the baseline embeds, and clips a second that it trains on; after a clip to warm up."""
    baseline = NaiveBaseline(device, classes, encoder)
    baseline.embed(embedded[:1])
    frames, seconds = baseline.embed(embedded)
    return frames / seconds, 1 / baseline.train(trained, steps)


def _frames(path: Path) -> Tensor:
    """All frames of a clip, uint8 (n, 3, height, width)."""
    with av.open(str(path.absolute()), metadata_errors="replace") as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return torch.stack(frames).permute(0, 3, 1, 2)
