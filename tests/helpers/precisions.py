"""How CUDA computes, as torch's switches say."""

from typing import Any

import torch

IEEE = ("ieee", "ieee", "ieee", False, True)
TF32 = ("tf32", "tf32", "tf32", False, True)


def switches() -> tuple[Any, ...]:
    """The precision of float32 in products, convolutions and RNNs, and cuDNN's `benchmark` and `deterministic`."""
    cudnn: Any = torch.backends.cudnn
    precisions = (part.fp32_precision for part in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn))
    return (*precisions, cudnn.benchmark, cudnn.deterministic)
