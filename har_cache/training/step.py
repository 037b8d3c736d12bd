"""A step of training: forward, loss, backward, clipping, AdamW and the moving average of the weights.

Nothing in it asks the device for a number, and what changes from step to step is a tensor: so it can be recorded once,
as a CUDA graph. A small model's 300 kernels take longer to launch than to run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import Batch

_GRADIENT_NORM = 1.0
_WARM_UPS = 3  # libraries choose their kernels and take their memory in the first ones

# Records the work of a function, which it may call any number of times, and gives what does it again.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def adamw(groups: Iterable[Mapping[str, Any]], lr: float) -> torch.optim.AdamW:
    """AdamW of these groups of parameters, the learning rate of each a tensor of its own beside them; `lr` where a
    group names none. Fused: one kernel a group.
    """
    rated = [{**group, "lr": torch.tensor(group.get("lr", lr), device=group["params"][0].device)} for group in groups]
    return torch.optim.AdamW(rated, lr=lr, fused=True, capturable=True)


class Step:
    """Trains `model`, `(inputs, mask) -> logits`, with the smoothed cross-entropy, and keeps `averaged`, a copy of it
    or the same, at the moving average of what it learns.
    """

    def __init__(
        self, model: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, smoothing: float
    ) -> None:
        """`optimizer`: the rates of its groups are tensors, as those of `adamw`."""
        self.learning: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.learning[0].device
        self._model, self._optimizer, self._smoothing = model, optimizer, smoothing
        counterparts: dict[Tensor, Tensor] = dict(zip(model.parameters(), averaged.parameters(), strict=True))
        self._averages = [] if averaged is model else [counterparts[p] for p in self.learning]
        self._kept, self._added = torch.zeros(2, device=self.device)

    def prepare(self, rates: Iterable[float], kept: float) -> None:
        """What holds from now on: the learning rate of each group, and the share of the average that a step leaves."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"].fill_(rate)
        self._kept.fill_(kept)
        self._added.fill_(1 - kept)

    def __call__(self, batch: Batch, window: int = 1, last: bool = True) -> Tensor:
        """Add the gradients of a batch, one of `window` of a step, and with the `last` make the step; gives the
        log-probabilities (clips, classes).
        """
        log_probabilities = self._model(batch.inputs, batch.mask).log_softmax(1)
        likelihood = (1 - self._smoothing) * F.nll_loss(log_probabilities, batch.labels)
        loss = likelihood - self._smoothing * log_probabilities.mean()
        (loss / window).backward()
        if last:
            self.update()
        return log_probabilities.detach()

    def update(self) -> None:
        """Make the step with the gradients there are."""
        nn.utils.clip_grad_norm_(self.learning, _GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._averages:
            with torch.no_grad():
                torch._foreach_mul_(self._averages, self._kept)
                torch._foreach_add_(self._averages, torch._foreach_mul(self.learning, self._added))

    def state(self) -> list[Tensor]:
        """All that a step changes, but the gradients; before the first, the optimizer has nothing."""
        moments = [value for p in self.learning for value in self._optimizer.state.get(p, {}).values()]
        return [*self.learning, *self._averages, *self._model.buffers(), *moments]

    def drop_gradients(self) -> None:
        """Forget the gradients that were added since the last step."""
        self._optimizer.zero_grad()


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
