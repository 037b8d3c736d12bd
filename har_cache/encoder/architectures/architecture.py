"""What an encoder is: a library's own model whose last layer, the classifier, is the projection."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...errors import SettingError, WeightsError
from ..transform import Transform

State = Mapping[str, Tensor]
Pair = tuple[Tensor, Tensor]  # weight (dim, features) and bias (dim) of a projection

_COUNT = re.compile(r"(.+\.)?num_batches_tracked")


@dataclass(frozen=True)
class Architecture:
    """An encoder by its `name`, as recipes have it.

    `make(dim)`: the library's model with so many outputs, freshly drawn; `classifier`: the name of its last layer, a
    `Linear`; `features`: how many numbers that takes; `bias`: whether the library's own has one, as a projection does;
    `published()`: the tensors of its published weights, which raises WeightsError where they cannot be had.
    """

    name: str
    transform: Transform
    make: Callable[[int], nn.Module]
    classifier: str
    features: int
    bias: bool
    published: Callable[[], State]

    def build(self, state: State) -> nn.Module:
        """The model of exactly these tensors, in eval mode; without those of the classifier its features are its
        output. Raises RuntimeError or ValueError where they do not fit.
        """
        projection = state.get(f"{self.classifier}.weight")
        model = self.undrawn(None if projection is None else len(projection))
        versioned = OrderedDict(state)
        # Modules refuse a state, or think it an old one, that does not carry their version; safetensors cannot.
        versioned._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
        model.load_state_dict(versioned, strict=True)
        return model

    def undrawn(self, dim: int | None) -> nn.Module:
        """The model with so many outputs, None for its features, in eval mode, its weights still to be filled in."""
        with undrawn():
            model = self.make(dim or 1)
        if dim is None:
            model.set_submodule(self.classifier, nn.Identity())
        return model.eval()

    def drawn(self, seed: int, dim: int) -> nn.Module:
        """The model with fresh weights of this seed, in eval mode; the caller's random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make(dim).eval()

    def backbone(self, state: State) -> dict[str, Tensor]:
        """All tensors but the classifier's."""
        return {name: tensor for name, tensor in state.items() if not name.startswith(f"{self.classifier}.")}

    def projection(self, state: State) -> Pair | None:
        """The classifier's weight and bias; None where there are none, or of another number of features."""
        weight, bias = (state.get(f"{self.classifier}.{name}", torch.empty(0)) for name in ("weight", "bias"))
        fits = weight.ndim == 2 and weight.shape[1] == self.features and bias.shape == weight.shape[:1]
        return (weight.float(), bias.float()) if fits else None

    def classifier_state(self, projection: Pair | None) -> dict[str, Tensor]:
        """The reverse of `projection`."""
        return dict(zip((f"{self.classifier}.weight", f"{self.classifier}.bias"), projection or (), strict=False))

    def check_dim(self, dim: int | None) -> None:
        """Raise SettingError where embeddings cannot have so many numbers; None: as many as there are features."""
        if dim is not None and not self.bias:
            raise SettingError(
                f"--dim {dim}: the last layer of {self.name} has no bias, but a projection: --dim native"
            )
        if dim is not None and dim > self.features:
            raise SettingError(
                f"--dim {dim}: {self.name} has {self.features} features: expected at most so many, or native"
            )

    def check_fit(self, backbone: State, where: str) -> dict[str, Tensor]:
        """The backbone's tensors as the model has them: counts of batches, which old files lack, are 0. Raises
        WeightsError, which says `where` they are from, where others are missing, unknown or of another shape.
        """
        wanted = self.backbone(self.undrawn(1).state_dict())
        wrong = [
            f"{name} is {tuple(backbone[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in backbone and backbone[name].shape != tensor.shape
        ]
        missing, unknown = sorted(wanted.keys() - backbone.keys()), sorted(backbone.keys() - wanted.keys())
        if all(map(_COUNT.fullmatch, missing)):
            zeros, missing = {name: torch.zeros_like(wanted[name]) for name in missing}, []
        for what, names in (("missing", missing), ("of another shape", wrong), ("unknown", unknown)):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                model = self.name if ":" in self.name else f"torchvision's {self.name}"
                raise WeightsError(f"{where}: these are no weights of {model}; {what}: {', '.join(names[:5])}{more}")
        return {**zeros, **backbone}


@contextmanager
def undrawn() -> Iterator[None]:
    """Models are made without drawing their weights, which takes most of the time that it takes to make them; the
    caller's random state is left alone.
    """
    with torch.random.fork_rng(devices=[]), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Zeros in place of what is drawn. Not what is in memory by chance: `nn.init.trunc_normal_` draws again and again
    until all is within its bounds.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function in (Tensor.normal_, Tensor.uniform_):
            return args[0].zero_()
        return function(*args, **(kwargs or {}))


def one_line(error: BaseException) -> str:
    """An error's text as one line, or its type where it has none."""
    if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to load the file as code
        return "it does not hold tensors alone, and loading anything else could run code"
    return " ".join(str(error).split())[:300] or type(error).__name__
