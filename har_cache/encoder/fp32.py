"""How exactly float32 is computed on CUDA: in float32 proper, or in TF32; either way the same every time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


def true_fp32(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: float32 is computed in float32 and not in TF32, by algorithms that are the same every time."""
    return fp32_precision(device, "ieee")


@contextmanager
def fp32_precision(device: torch.device, precision: str) -> Iterator[None]:
    """On CUDA: products, convolutions and RNNs of float32 are computed in `ieee` or `tf32`, by algorithms that are the
    same every time. What was set before is set again at the end.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    backends: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    before = [backend.fp32_precision for backend in backends], cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.benchmark, cudnn.deterministic = False, True
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        precisions, cudnn.benchmark, cudnn.deterministic = before
        for backend, theirs in zip(backends, precisions, strict=True):
            backend.fp32_precision = theirs
