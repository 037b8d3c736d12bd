"""Cropped frames -> embeddings: MNASNet at a chosen precision; and the choice of it, for any encoder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import system
from ..settings.names import CENTER, FLIP, FULL
from .convolutions import Block, CudnnConv
from .folded import FoldedEncoder, without_linear_biases
from .fp32 import true_fp32
from .onnx_graph import Graph
from .transform import DEFAULT, normalise

# Frames a batch on the CPU: small enough to stay in its cache. Clips end in a batch filled up to a multiple
# of 4 frames, so that few shapes occur; oneDNN prepares a primitive for each new one.
CPU_BATCH, _PAD = 16, 4
# The first blocks (112x112 and 56x56 pixels) write 3 MB a frame: they are faster on 2 frames at a time with oneDNN,
# on one with ONNX Runtime.
_EARLY_BLOCKS, _EARLY_BATCH = 4, 2
# `*-mixed` keeps the blocks before this one in fp32: they make nearly all of the rounding error of bf16 and fp16
# (bf16 everywhere: centred cosine 0.63 to 0.78 in the worst frame; from here on: 0.996). On CUDA time goes with the
# bytes that blocks write, and the stem alone makes most of fp16's error (fp16 after it: 0.9994).
_MIXED_FROM, _MIXED_FROM_ON_CUDA = 6, 1
FAITHFUL = 0.99


class FrozenEncoder(ABC):
    """What embeds frames, at one precision: its `device`, its `views`, and the `projection` of its features."""

    device: torch.device
    views: tuple[str, ...]
    projection: "Projection"

    @torch.inference_mode()
    def __call__(self, crops: Tensor, whole: Tensor | None = None) -> Tensor:
        """Embeddings of each view: float32 (views, n, dim). `whole`: for the view `full`."""
        seen = [view(name, crops, whole) for name in self.views]
        with true_fp32(self.device):
            return torch.stack([self.projection(self.features(picture)) for picture in seen])

    @abstractmethod
    def features(self, crops: Tensor) -> Tensor:
        """The features before the projection: float32 (n, features)."""


class Encoder(FrozenEncoder):
    """The frozen MNASNet at one precision, on one device.

    `encoder(*pictures)`: what `pictures` gives for its views, (n, 3, 224, 224) each -> float32 (views, n, 256). On the
    CPU it is built for one thread: the pipeline runs one a core.
    """

    transform = DEFAULT

    def __init__(
        self,
        folded: FoldedEncoder,
        precision: str = "fp32",
        views: Sequence[str] = (CENTER,),
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.views = tuple(views)
        cuda = self.device.type == "cuda"
        dtypes = _dtypes(precision, len(folded.blocks), _MIXED_FROM_ON_CUDA if cuda else _MIXED_FROM)
        folded = without_linear_biases(folded) if cuda else folded
        in_graph = dtypes.count(torch.float32) if self.device.type == "cpu" else 0
        self.graph = Graph(folded.blocks[:in_graph]) if in_graph else None
        self.blocks = [
            Block(block, dtype, self.device)
            for block, dtype in zip(folded.blocks[in_graph:], dtypes[in_graph:], strict=True)
        ]
        self.projection = Projection(folded.weight, folded.bias, self.device)

    @property
    def refused(self) -> list[str]:
        """On CUDA: the convolutions that cuDNN does not compute together with bias and ReLU, each with the reason.

        Known once frames were embedded.
        """
        numbered = [(i, j, conv) for i, block in enumerate(self.blocks) for j, conv in enumerate(block.convs)]
        return [
            f"block {i}, convolution {j}: {conv.refused}"
            for i, j, conv in numbered
            if isinstance(conv, CudnnConv) and conv.refused
        ]

    @torch.inference_mode()
    def features(self, crops: Tensor) -> Tensor:
        """The pooled features before the projection: float32 (n, 1280)."""
        if self.device.type != "cpu":
            with true_fp32(self.device):
                return _pool(_run(self.blocks, normalise(crops)))
        return torch.cat([self._cpu_batch(part) for part in crops.split(CPU_BATCH)])

    def _cpu_batch(self, crops: Tensor) -> Tensor:
        n = len(crops)
        if self.graph:
            early = torch.cat([self.graph(frame) for frame in crops.split(1)])
            return _pool(_run(self.blocks, _filled(early.contiguous(memory_format=torch.channels_last))))[:n]
        parts = _filled(crops).split(_EARLY_BATCH)
        early = torch.cat([_run(self.blocks[:_EARLY_BLOCKS], normalise(part)) for part in parts])
        return _pool(_run(self.blocks[_EARLY_BLOCKS:], early))[:n]


class Projection:
    """From pooled features to embeddings, in float32: weight (dim, features) and bias (dim), or nothing at all."""

    def __init__(self, weight: np.ndarray | None, bias: np.ndarray | None, device: torch.device) -> None:
        self._weights = [torch.from_numpy(array).to(device) for array in (weight, bias) if array is not None]

    def __call__(self, features: Tensor) -> Tensor:
        """float32 (n, features) -> float32 (n, dim)."""
        return F.linear(features, *self._weights) if self._weights else features


def view(name: str, crops: Tensor, whole: Tensor | None) -> Tensor:
    """What a view shows, of the pictures that there are."""
    if name == FULL:
        assert whole is not None
        return whole
    return crops.flip(-1) if name == FLIP else crops


def _filled(x: Tensor) -> Tensor:
    n = len(x)
    return F.pad(x, (0, 0, 0, 0, 0, 0, 0, -n % _PAD)) if n % _PAD else x


def _run(blocks: Sequence[Block], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def _pool(x: Tensor) -> Tensor:
    return x.float().mean((2, 3))


def choose_precision(
    packed: Any, crops: Tensor, device: str, asked: str = "auto", make: Callable[..., Any] | None = None
) -> tuple[str, float]:
    """The precision to use, and its faithfulness: the lowest centred cosine to fp32 over `crops`. `packed`: a folded
    encoder, or what else `make` takes in its place to make what works as an Encoder.

    `auto` takes the first precision, in the order that this hardware is known to favour, that keeps every frame
    at 0.99 or above. It never times anything, so that it decides the same every time.
    """
    made = make or Encoder
    reference = made(packed, "fp32", device=device)(crops.to(device))[0]
    for precision in favoured(device) if asked == "auto" else [asked]:
        if precision == "fp32":
            break
        embeddings = made(packed, precision, device=device)(crops.to(device))[0]
        cosine = float(centred_cosine(reference, embeddings).min())
        if asked != "auto" or cosine >= FAITHFUL:
            return precision, cosine
    return "fp32", 1.0


def centred_cosine(reference: Tensor, embeddings: Tensor) -> Tensor:
    """Cosine of each row to its reference, (n, d) each, after the reference's mean is taken off both: (n,)."""
    mean = reference.mean(0)
    return F.cosine_similarity(embeddings - mean, reference - mean)


def favoured(device: str) -> Iterator[str]:
    """Precisions in the order that this hardware is known to favour, fp32 last."""
    kind = torch.device(device).type
    flags = system.cpu_flags() if kind == "cpu" else frozenset()
    # Low precision everywhere is no faster on CPUs (measured with bf16). On CUDA it writes a seventh less, but errs
    # five times as much.
    if kind == "cuda" or flags & {"avx512_fp16", "amx_fp16"}:
        yield "fp16-mixed"
    elif flags & {"avx512_bf16", "amx_bf16"}:
        yield "bf16-mixed"
    yield "fp32"


def _dtypes(precision: str, blocks: int, mixed_from: int) -> list[torch.dtype]:
    """The dtype of each block; `*-mixed` is low from block `mixed_from` on."""
    name, _, mixed = precision.partition("-")
    low = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
    exact = mixed_from if mixed else 0
    return [torch.float32] * exact + [low] * (blocks - exact)
