"""Any encoder but MNASNet: the library's own model, run as it is."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...settings.names import CENTER
from ..encoder import CPU_BATCH, FrozenEncoder, Projection
from ..fp32 import true_fp32
from ..transform import CROP, Transform, normalise
from .names import architecture

_ON_DEVICE = 16  # times as many frames a batch as on the CPU
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class PackedModel:
    """An encoder as plain arrays, for worker processes: its name, how frames become what it takes, and its tensors by
    their names in the model.
    """

    name: str
    transform: Transform
    tensors: Mapping[str, np.ndarray]


class EagerEncoder(FrozenEncoder):
    """A frozen model at one precision, on one device; used as an Encoder is.

    `fp16` and `bf16` are those of its weights and of all that it computes; `*-mixed` is autocast. The projection is
    float32 in any case.
    """

    def __init__(
        self, packed: PackedModel, precision: str = "fp32", views: Sequence[str] = (CENTER,), device: str = "cpu"
    ) -> None:
        self.device, self.views = torch.device(device), tuple(views)
        known = architecture(packed.name)
        self.transform = packed.transform
        self.batch = batch_size(self.transform) * (1 if self.device.type == "cpu" else _ON_DEVICE)
        state = {name: torch.from_numpy(array) for name, array in packed.tensors.items()}
        projection = known.projection(state)
        weight, bias = (tensor.numpy() for tensor in projection) if projection else (None, None)
        self.projection = Projection(weight, bias, self.device)
        name, _, mixed = precision.partition("-")
        self._dtype, self._mixed = _DTYPES[name], bool(mixed)
        model = known.build(known.backbone(state)).requires_grad_(False)
        self._layout = memory_format(model)
        model = model.to(self.device, torch.float32 if mixed else self._dtype)
        self._model = model.to(memory_format=self._layout)

    @torch.inference_mode()
    def features(self, crops: Tensor) -> Tensor:
        """The features before the projection: float32 (n, features)."""
        with true_fp32(self.device), self._autocast():
            return torch.cat([self._run(part) for part in crops.split(self.batch)])

    def _run(self, crops: Tensor) -> Tensor:
        frames = normalise(crops, self.transform).contiguous(memory_format=self._layout)
        return self._model(frames if self._mixed else frames.to(self._dtype)).float()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._dtype) if self._mixed else nullcontext()


def batch_size(transform: Transform) -> int:
    """Frames a batch on the CPU: a power of two, of no more pixels than one of MNASNet has."""
    size = CPU_BATCH
    while size > 1 and size * transform.crop**2 > CPU_BATCH * CROP**2:
        size //= 2
    return size


def memory_format(model: nn.Module) -> torch.memory_format:
    """The order in memory that a model is fastest with: that of convolutions, where it has more than one of them."""
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutions > 1 else torch.contiguous_format
