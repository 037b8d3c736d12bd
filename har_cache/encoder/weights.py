"""Encoder weights: where they come from, and the file they are kept in.

The encoder is torchvision's `mnasnet0_5` with its classifier replaced by `Linear(1280, 256)`.
"""

import contextlib
import hashlib
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torchvision.models import MNASNet, MNASNet0_5_Weights, mnasnet0_5

from ..cache.recipe import EMBEDDING, FEATURES
from ..errors import FileError, WeightsError
from ..storage.files import file_sha256

_CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Weights:
    """Weights as they were found, before anything is fitted.

    `backbone` holds the `layers.*` tensors; `projection` the (256, 1280) weight and (256,) bias, where the file
    has one; `name` is `imagenet`, `random` or `file`, or says which run they are of; `sha256` is over the backbone's
    tensors. `projection_name` and `projection_fit` say where a run's projection came from, `trained_split` on whose
    labels its encoder was trained.
    """

    name: str
    backbone: Mapping[str, Tensor]
    projection: tuple[Tensor, Tensor] | None
    sha256: str
    projection_name: str = "file"
    projection_fit: str = ""
    trained_split: int | None = None


def find_weights(wanted: str, seed: int = 0) -> Weights:
    """Weights from `imagenet`, `random` (seeded) or a file: a torchvision `.pth`, a safetensors file.

    Raises WeightsError where they cannot be downloaded, or do not fit (naming what is missing).
    """
    if wanted == "imagenet":
        state, name = _imagenet_state(), "imagenet"
    elif wanted == "random":
        state, name = random_model(seed).state_dict(), "random"
    else:
        state, name = _file_state(Path(wanted)), "file"
    backbone = {k: v for k, v in state.items() if k.startswith("layers.")}
    _check_fit(backbone, wanted)
    projection = _projection(state) if name == "file" else None
    return Weights(name, backbone, projection, tensors_sha256(backbone))


def random_model(seed: int) -> MNASNet:
    """An encoder with fresh weights of this seed, in eval mode; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = mnasnet0_5(weights=None)
        model.classifier = nn.Linear(FEATURES, EMBEDDING)
    return model.eval()


def build_encoder(state: Mapping[str, Tensor]) -> MNASNet:
    """An encoder of exactly these tensors, in eval mode. Raises RuntimeError where they do not fit.

    torchvision's MNASNet refuses a state dict that does not carry its version, and safetensors cannot carry one.
    """
    model, versioned = random_model(seed=0), OrderedDict(state)
    versioned._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=True)
    return model


def save_encoder(model: MNASNet) -> bytes:
    """The bytes of an `encoder.safetensors`: the same for the same weights."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_encoder(data: bytes) -> MNASNet:
    """The model of an `encoder.safetensors`. Raises WeightsError if it is none."""
    try:
        return build_encoder(safetensors.torch.load(data))
    except (safetensors.SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"encoder.safetensors does not hold an encoder: {_one_line(error)}") from error


def calibrate(model: MNASNet, batches: Iterable[Tensor]) -> None:
    """Set the BatchNorm statistics to those of `batches` (normalised frames, (n, 3, 224, 224)), in place.

    Without this a freshly initialised network in eval mode gives nearly the same embedding for every frame.
    """
    update_bn(batches, model)  # a plain average over them


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _imagenet_state() -> Mapping[str, Tensor]:
    weights = MNASNet0_5_Weights.IMAGENET1K_V1
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        _check_hash(folder / PurePosixPath(weights.url).name)
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub says there what it downloads
            return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (
        FileError,
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:  # no network; a file whose hash does not match
        raise WeightsError(
            f"ImageNet weights cannot be had ({_one_line(error)}). Fetch {weights.url} on a machine with a network "
            f"and put it into {folder}, or pass the file with --weights PATH; --weights random is for demos and tests"
        ) from error


def _check_hash(file: Path) -> None:
    """Check a file that is there already: torch.hub compares only what it downloads with the hash in its name."""
    wanted = file.stem.rpartition("-")[2]
    if file.exists() and not file_sha256(file).startswith(wanted):
        raise RuntimeError(f"{file} is not the published file: its sha256 does not begin with {wanted}; remove it")


def _file_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"--weights: no such file: {path} (or one of: imagenet, random)")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a damaged file can raise anything: KeyError, AssertionError, ...
        raise WeightsError(f"{path}: cannot be read as weights: {_one_line(error)}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError(f"{path}: expected a plain state dict of tensors, such as torchvision's own .pth files")
    return state


def _projection(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    weight, bias = (state.get(name, torch.empty(0)) for name in _CLASSIFIER)
    fits = weight.shape == (EMBEDDING, FEATURES) and bias.shape == (EMBEDDING,)
    return (weight.float(), bias.float()) if fits else None


def _check_fit(backbone: Mapping[str, Tensor], where: str) -> None:
    wanted = {k: v.shape for k, v in random_model(0).state_dict().items() if k.startswith("layers.")}
    missing = sorted(wanted.keys() - backbone.keys())
    unknown = sorted(backbone.keys() - wanted.keys())
    wrong = [
        f"{k} is {tuple(backbone[k].shape)}, not {tuple(v)}"
        for k, v in wanted.items()
        if k in backbone and backbone[k].shape != v
    ]
    for what, names in (("missing", missing), ("of another shape", wrong), ("unknown", unknown)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise WeightsError(
                f"{where}: these are no weights of torchvision's mnasnet0_5; {what}: {', '.join(names[:5])}{more}"
            )


def _one_line(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to load the file as code
        return "it does not hold tensors alone, and loading anything else could run code"
    return " ".join(str(error).split())[:300] or type(error).__name__
