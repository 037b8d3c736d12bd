"""Steps of training recorded as one CUDA graph: a small model's 300 kernels take longer to launch than to run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .batches import Batch
from .step import Step

# Records the work of a function, which it may call any number of times, and gives what does it again.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]

_WARM_UPS = 3  # libraries choose their kernels and take their memory in the first ones


def record_cuda_graph(device: torch.device) -> Recorder:
    """Recorder of CUDA graphs on this device. What it records may raise RuntimeError."""

    def record(work: Callable[[], None]) -> Callable[[], None]:
        graph, here, side = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device), torch.cuda.Stream(device)
        side.wait_stream(here)
        try:
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    work()
                with torch.cuda.graph(graph, stream=side):
                    work()
        finally:  # else what comes next would read weights that the side still changes
            here.wait_stream(side)
        return graph.replay

    return record


class GraphedStep:
    """A `Step` that is recorded with the first batch, and replayed for all of that shape. The shorter batch at the end
    of an epoch, and windows of several batches, are stepped as ever; so is everything where recording fails, which is
    said once.
    """

    def __init__(self, step: Step, record: Recorder, say: Callable[[str], None]) -> None:
        self._step, self._record, self._say = step, record, say
        self._batch: Batch | None = None  # where the recorded step reads
        self._output: list[Tensor] = []  # where it writes
        self._replay: Callable[[], None] | None = None

    def __call__(self, batch: Batch, window: int = 1, last: bool = True) -> Tensor:
        """As that of `Step`."""
        if window > 1 or not last:
            return self._step(batch, window, last)
        if self._batch is None:
            self._batch = Batch(*(tensor.clone() for tensor in batch))
            self._prepare(self._batch)
        if self._replay is None or any(a.shape != b.shape for a, b in zip(batch, self._batch, strict=True)):
            return self._step(batch)
        for static, given in zip(self._batch, batch, strict=True):
            static.copy_(given)
        self._replay()
        return self._output[0].clone()

    def update(self) -> None:
        """As that of `Step`."""
        self._step.update()

    def _prepare(self, batch: Batch) -> None:
        def work() -> None:
            self._output[:] = [self._step(batch)]

        with _untouched(self._step):
            try:
                self._replay = self._record(work)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                self._say(f"Steps are not recorded as a CUDA graph, and take longer: {reason}")


@contextmanager
def _untouched(step: Step) -> Iterator[None]:
    """Whatever steps are made, in the end weights, averages, optimizer and random numbers are what they were."""
    before = {tensor: tensor.detach().clone() for tensor in step.state()}
    devices = [step.device] if step.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            step.drop_gradients()
            with torch.no_grad():
                for tensor in step.state():
                    if tensor in before:
                        tensor.copy_(before[tensor])
                    else:  # of an optimizer that had made no step: all of it begins with zeros
                        tensor.zero_()
