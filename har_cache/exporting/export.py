"""A run's whole network as one file for other programs: ONNX, or `torch.export`."""

import copy
import importlib.metadata
import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..encoder.architectures.packing import transform_of
from ..encoder.transform import DEFAULT, Transform, crop, described, normalise, scale_and_shift
from ..errors import ClipError, HarCacheError, SettingError
from ..model.load import load_network
from ..model.network import CNNBidirectionalRNN
from ..model.run import Run
from ..progress import Progress
from ..storage.files import write_file
from ..video.decode import VideoReader
from .rnn import onnx_translations, to_aten, traceable

SUFFIXES = (".onnx", ".pt2")
SCHEMA = "har-export/1"
METADATA = "har-cache.json"  # the extra file of a .pt2
_OPSET = 20
_TOLERANCE = 1e-3  # of a logit: the contract of an exact hand-over
_ROUNDING = 4  # times what float32 itself errs by, where that is more than the tolerance
_CHECKED = ((1, 1), (1, 8), (3, 5))  # clips, frames; other numbers than those of the example
_EXAMPLE = (2, 4)
_AXES = {0: Dim("batch"), 1: Dim("frames")}
_DYNAMIC = {"frames": _AXES, "mask": _AXES}
_NOISE = 16  # frames

Runner = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Export:
    """A written file: its path and size, what is in its metadata, and how it was checked.

    `difference`: the largest one of any logit to the eager model; `checked_on`: what was seen by both.
    """

    path: Path
    bytes: int
    metadata: dict[str, str]
    difference: float
    checked_on: str


class FramesToLogits(nn.Module):
    """The network with the normalisation in it, so that nobody has to know mean and standard deviation."""

    def __init__(self, network: CNNBidirectionalRNN, transform: Transform = DEFAULT) -> None:
        super().__init__()
        self.network = network
        scale, shift = (torch.from_numpy(values).view(3, 1, 1) for values in scale_and_shift(transform))
        self.scale, self.shift = nn.Buffer(scale), nn.Buffer(shift)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """uint8 RGB crops (b, t, 3, side, side), bool (b, t) true for frames, which come first; logits (b, classes)."""
        return self.network(frames.float() * self.scale + self.shift, mask)


def export(run_path: Path, to: Path, video: Path | None = None, progress: Progress = Progress()) -> Export:
    """Write the network of a run to `to`, as ONNX (.onnx) or as a `torch.export` program (.pt2).

    Before that, it runs on frames of `video`, or else on patterned noise, in other numbers of clips and frames than it
    was traced with, and must give the eager model's logits, as exactly as float32 allows. Raises HarCacheError where it
    does not, where the extra `export` is not installed, or the run or the video cannot be used; SettingError on another
    suffix; FileError where nothing can be written.
    """
    _check(to)
    run = Run.open(run_path)
    network, transform = load_network(run), transform_of(run.config.recipe)
    frames = _video_frames(video, transform) if video else _noise_frames(transform)
    progress.say("Tracing the network")
    program = _trace(FramesToLogits(traceable(network), transform).eval(), _batch(frames, *_EXAMPLE))
    metadata = _metadata(run)
    onnx = to.suffix == ".onnx"
    progress.say(f"Writing it as {'ONNX' if onnx else 'a torch.export program'}")
    data = _onnx_bytes(program, metadata) if onnx else _pt2_bytes(program, metadata)
    progress.say("Running that beside the model")
    difference = _largest_difference(network, _onnx_runner(data) if onnx else _pt2_runner(data), frames, transform)
    if not difference <= _TOLERANCE:  # nor where it is NaN
        own = _largest_difference(network, _double_runner(network, transform), frames, transform)
        if not difference <= _ROUNDING * own:
            raise HarCacheError(
                f"{to}: not written: its logits are up to {difference:.2g} off the model's (allowed: {_TOLERANCE:g}); "
                "try other versions of torch and onnxscript"
            )
        progress.say(
            f"WARNING: the model's own logits are up to {own:.2g} off in float32 on these frames, against float64: no "
            "file can be closer to it than that. On frames as it was trained on (--video) it may be far less"
        )
    write_file(to, data)
    checked_on = f"frames of {video}" if video else "patterned noise"
    return Export(to, len(data), metadata, difference, checked_on)


def _check(to: Path) -> None:
    if to.suffix not in SUFFIXES:
        raise SettingError(f"--to {to}: expected a file named *.onnx or *.pt2")
    if to.suffix == ".onnx" and importlib.util.find_spec("onnxscript") is None:
        raise HarCacheError("ONNX needs onnxscript: pip install onnxscript")
    if not to.absolute().parent.is_dir():
        raise SettingError(f"--to {to}: no such directory: {to.parent}")


def _metadata(run: Run) -> dict[str, str]:
    config, transform = run.config, transform_of(run.config.recipe)
    frames = f"uint8 RGB (batch, frames, 3, {transform.crop}, {transform.crop})"
    return {
        "schema": SCHEMA,
        "classes": json.dumps(config.classes),
        "frames": str(config.training.frames),
        "views": ",".join(config.recipe.views),
        "transform": described(config.recipe.views, transform),
        "mean": json.dumps(transform.mean),
        "std": json.dumps(transform.std),
        "input": f"frames: {frames}, normalised inside; mask: bool (batch, frames)",
        "output": "logits: float32 (batch, classes); their softmax is the probabilities",
        "stage": config.stage,
        "split": str(config.split),
        "fingerprint": config.fingerprint,
        "model_sha256": run.model_sha256,
        "har_cache": importlib.metadata.version("har-cache"),
    }


def _trace(model: nn.Module, example: tuple[Tensor, Tensor]) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model, example, dynamic_shapes=_DYNAMIC)


def _pt2_bytes(program: ExportedProgram, metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    torch.export.save(to_aten(program), file, extra_files={METADATA: json.dumps(metadata, indent=1)})
    return file.getvalue()


def _onnx_bytes(program: ExportedProgram, metadata: dict[str, str]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations within the exporter
        exported = torch.onnx.export(
            program,
            dynamo=True,
            dynamic_shapes=_DYNAMIC,
            input_names=["frames", "mask"],
            output_names=["logits"],
            opset_version=_OPSET,
            custom_translation_table=onnx_translations(),
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def _pt2_runner(data: bytes) -> Runner:
    model = torch.export.load(io.BytesIO(data)).module()
    return lambda frames, mask: model(torch.from_numpy(frames), torch.from_numpy(mask)).numpy(force=True)


def _onnx_runner(data: bytes) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda frames, mask: session.run(None, {"frames": frames, "mask": mask})[0]


def _double_runner(network: CNNBidirectionalRNN, transform: Transform) -> Runner:
    """The network itself, its encoder in float64."""
    double = copy.deepcopy(network)
    double.encoder.double()

    @torch.inference_mode()
    def run(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
        pictures = normalise(torch.from_numpy(frames).flatten(0, 1).float(), transform)
        logits: np.ndarray = double(pictures.double().unflatten(0, mask.shape), torch.from_numpy(mask)).numpy()
        return logits

    return run


def _largest_difference(
    network: CNNBidirectionalRNN, runner: Runner, frames: Tensor, transform: Transform = DEFAULT
) -> float:
    """Of the logits to those of the eager model on normalised frames, as the rest of har-cache runs it."""
    differences = []
    for clips, steps in _CHECKED:
        pictures, mask = _batch(frames, clips, steps)
        with torch.inference_mode():
            normalised = normalise(pictures.flatten(0, 1).float(), transform).unflatten(0, mask.shape)
            expected = network(normalised, mask).numpy()
        differences.append(np.abs(runner(pictures.numpy(), mask.numpy()) - expected).max())
    return float(np.max(differences))


def _batch(frames: Tensor, clips: int, steps: int) -> tuple[Tensor, Tensor]:
    """Clips of different lengths, the first of `steps` frames and each later one shorter, from these frames."""
    rows = torch.arange(clips * steps).remainder(len(frames)).view(clips, steps)
    lengths = (steps - torch.arange(clips)).clamp(min=1)
    return frames[rows], torch.arange(steps) < lengths[:, None]


def _video_frames(video: Path, transform: Transform) -> Tensor:
    try:
        with VideoReader(video) as reader:
            chunk = next(reader.chunks())
    except ClipError as error:
        raise HarCacheError(f"--video {video}: {error}") from error
    return crop(torch.from_numpy(chunk), transform.crop, transform).to(torch.uint8).contiguous()


def _noise_frames(transform: Transform) -> Tensor:
    """Crops with large shapes and some texture: blocks of three sizes, each of random colours."""
    rng, side = np.random.default_rng(0), transform.crop
    shares = {4: 0.5, 14: 0.35, 56: 0.15}  # by blocks a side
    layers = [
        share * rng.random((_NOISE, 3, n, n)).repeat(-(-side // n), 2).repeat(-(-side // n), 3)[..., :side, :side]
        for n, share in shares.items()
    ]
    return torch.from_numpy((255 * np.sum(layers, 0)).round().astype(np.uint8))
