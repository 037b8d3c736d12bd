"""What CUDA's graphs are to a GPU, for the CPU: operations on tensors recorded once, and done again.

As with those, what Python decided is decided for good, numbers that were no tensors stay what they were, each tensor
stays where it was, and whoever asks for a number from the device while it is recorded is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# Operations whose result is known to Python only once the device has done all before.
WAITS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique_dim"}


class NoWaiting(TorchDispatchMode):
    """Raises RuntimeError where the device would be waited for. `operations`: how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        self.operations += 1
        return self.done(function, args, kwargs or {})

    def done(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return function(*args, **kwargs)


class Tape(NoWaiting):
    """Records what is done while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._row: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []

    def done(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Aliases, since some operations change a tensor's shape in place, and an optimizer drops gradients.
        there = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        result = function(*args, **kwargs)
        if torch.Tag.inplace_view not in function.tags:
            self._row.append((function, *there, [tensor.detach() for tensor in _tensors(result)]))
        return result

    def replay(self) -> None:
        """Do all of it again, each result where it was the first time."""
        for function, args, kwargs, places in self._row:
            for place, tensor in zip(places, _tensors(function(*args, **kwargs)), strict=True):
                if place.data_ptr() != tensor.data_ptr():
                    place.copy_(tensor)


def taped(work: Callable[[], None]) -> Callable[[], None]:
    """A recorder of steps, as `GraphedStep` takes one."""
    for _ in range(3):
        work()
    with Tape() as tape:
        work()
    return tape.replay


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
