"""Hostile runs and evaluations: configs, figures, tables, weights."""

import json
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from har_cache.encoder.weights import find_weights
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.results import METRICS, read_evaluation
from har_cache.model.load import load_network
from har_cache.model.run import CLIPS, ENCODER, MODEL, Run
from har_cache.pages.report import report
from har_cache.settings.evaluation import EvaluateSettings
from har_cache.storage.files import sha256
from har_cache.training.checkpoints import load_checkpoint, read_metrics

from .case import Calls, Case, must
from .place import Place, edit, put, sealed
from .values import changes, tables

_CONFIG = "config.json"
_EVALUATION = Path("evaluate", "split1")


def run_calls(place: Place, run: Path, evaluates: bool = True) -> Calls:
    """All that reads a run."""
    found: dict[str, Callable[[], object]] = {
        "Run.open": lambda: Run.open(run),
        "load_head": lambda: Run.open(run).load_head(),
        "load_network": lambda: load_network(Run.open(run)),
        "read_metrics": lambda: read_metrics(run),
        "load_checkpoint": lambda: load_checkpoint(run / "last.ckpt"),
        "report": lambda: report(run),
    }
    if evaluates:
        found["evaluate"] = lambda: _evaluate(place, run)
    return found


def _evaluate(place: Place, run: Path) -> None:
    for found in evaluate(EvaluateSettings(run=run, cache=place.world / "cache", device="cpu")):
        must(found.metrics.clips == len(found.predictions) > 0, f"{found.metrics.clips} clips")
        must(0 <= found.metrics.top1 <= 1, f"top-1 {found.metrics.top1}")


def configs(rng: random.Random, world: Path) -> Iterator[Case]:
    """Without end."""
    for name, content in changes(json.loads((world / "evaluated" / _CONFIG).read_text()), rng):
        yield Case("configs", name, lambda place, c=content: _with_config(place, c))


def _with_config(place: Place, content: Mapping[str, Any]) -> Calls:
    run = place.copy("evaluated")
    put(run / _CONFIG, sealed(content))
    return run_calls(place, run, evaluates=place.rng.random() < 0.3)


def metrics(rng: random.Random, world: Path) -> Iterator[Case]:
    """Figures of an evaluation, without end."""
    for name, content in changes(json.loads((world / "evaluated" / _EVALUATION / METRICS).read_text()), rng):
        yield Case("metrics.json", name, lambda place, c=content: _with_metrics(place, c))


def _with_metrics(place: Place, content: Mapping[str, Any]) -> Calls:
    run = place.copy("evaluated")
    put(run / _EVALUATION / METRICS, sealed(content))
    return _evaluation_calls(place, run)


def _evaluation_calls(place: Place, run: Path) -> Calls:
    data = place.world / "data"
    return {
        "read_evaluation": lambda: read_evaluation(run / _EVALUATION),
        "report": lambda: report(run),
        "report --data": lambda: report(run, data),
    }


def clips(rng: random.Random, world: Path) -> Iterator[Case]:
    """clips.csv, without end."""

    def make(place: Place, data: bytes) -> Calls:
        run = place.copy("evaluated")
        put(run / CLIPS, data)
        edit(run / _CONFIG, lambda content: content["files"].update({CLIPS: sha256(data)}))
        return run_calls(place, run, evaluates=place.rng.random() < 0.3)

    for name, data in tables((world / "evaluated" / CLIPS).read_bytes(), rng):
        yield Case("clips.csv", name, lambda place, d=data: make(place, d))


def evaluation_tables(rng: random.Random, world: Path) -> Iterator[Case]:
    """predictions.csv, linear.csv and per_class.csv, without end."""

    def make(place: Place, name: str, data: bytes) -> Calls:
        run = place.copy("evaluated")
        put(run / _EVALUATION / name, data)
        edit(run / _EVALUATION / METRICS, lambda content: content["files"].update({name: sha256(data)}))
        return _evaluation_calls(place, run)

    names = ("predictions.csv", "linear.csv", "per_class.csv")
    made = {name: tables((world / "evaluated" / _EVALUATION / name).read_bytes(), rng) for name in names}
    while True:
        name = rng.choice(("predictions.csv", *names))
        what, data = next(made[name])
        yield Case("tables of evaluations", f"{name}, {what}", lambda place, n=name, d=data: make(place, n, d))


def epochs(rng: random.Random, world: Path) -> Iterator[Case]:
    """metrics.csv of a run, without end."""

    def make(place: Place, data: bytes) -> Calls:
        run = place.copy("evaluated")
        put(run / "metrics.csv", data)
        return {"read_metrics": lambda: read_metrics(run), "report": lambda: report(run)}

    for name, data in tables((world / "evaluated" / "metrics.csv").read_bytes(), rng):
        yield Case("metrics.csv", name, lambda place, d=data: make(place, d))


def weights(rng: random.Random, world: Path) -> Iterator[Case]:
    """Weights of heads and encoders: files of any bytes, and tensors that do not fit."""
    found = [
        Case("weights", f"{file}: {name}", _with_weights(file, spoil))
        for file in (MODEL, ENCODER)
        for name, spoil in _SPOILT.items()
    ]
    rng.shuffle(found)
    yield from found


def _with_weights(file: str, spoil: Callable[[bytes], bytes]) -> Callable[[Place], Calls]:
    def make(place: Place) -> Calls:
        run = place.copy("evaluated")
        data = spoil((run / file).read_bytes())
        put(run / file, data)
        if file == MODEL:
            edit(run / _CONFIG, lambda content: content.update(model_sha256=sha256(data)))
            edit(run / _EVALUATION / METRICS, lambda content: content.update(model_sha256=sha256(data)))
        else:
            edit(run / _CONFIG, lambda content: content["recipe"].update(encoder_sha256=sha256(data)))
        copied = place.work / "copied.safetensors"
        copied.write_bytes(data)
        pickled = place.work / "copied.pth"
        pickled.write_bytes(data)
        calls = dict(run_calls(place, run, evaluates=file == MODEL))
        calls["--weights FILE.safetensors"] = lambda: find_weights(str(copied))
        calls["--weights FILE.pth"] = lambda: find_weights(str(pickled))
        return calls

    return make


def _with_header(header: bytes, length: int | None = None, rest: bytes = bytes(64)) -> Callable[[bytes], bytes]:
    return lambda data: struct.pack("<Q", len(header) if length is None else length) + header + rest


def _described(**fields: Any) -> Callable[[bytes], bytes]:
    entry = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **fields}
    return _with_header(json.dumps({"mean": entry}).encode())


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        found = safetensors.torch.load(data)
        change(found)
        return safetensors.torch.save(found)

    return spoil


def _each(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[bytes], bytes]:
    return _tensors(lambda found: found.update({name: change(tensor) for name, tensor in found.items()}))


_ENTRY = b'"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}'
_SPOILT: Mapping[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda data: b"",
    "seven bytes": lambda data: data[:7],
    "half": lambda data: data[: len(data) // 2],
    "more bytes": lambda data: data + b"x",
    "a header of 2^60": _with_header(b"{}", 1 << 60),
    "a header of 2^64 - 1": _with_header(b"{}", (1 << 64) - 1),
    "a header beyond the file": _with_header(b"{}", 1000),
    "a header of 90 MB": _with_header(b" " * 90_000_000 + b"{}"),
    "no JSON": _with_header(b"{{{{"),
    "depths": _with_header(b"[" * 200_000),
    "depths of objects": _with_header(b'{"a":' * 200_000),
    "no UTF-8": _with_header(b'{"\xff": 1}'),
    "a list": _with_header(b"[]"),
    "nothing in it": _with_header(b"{}", rest=b""),
    "numbers as metadata": _with_header(b'{"__metadata__": {"a": 1}}'),
    "a negative shape": _described(shape=[-1]),
    "an overflowing shape": _described(shape=[1 << 62, 8]),
    "a huge shape": _described(shape=[1 << 40]),
    "a shape of 10^5 sides": _described(shape=[1] * 100_000),
    "an empty shape of 2^40": _described(shape=[0, 1 << 40], data_offsets=[0, 0]),
    "offsets that fall": _described(data_offsets=[64, 0]),
    "offsets beyond": _described(data_offsets=[0, 1 << 50]),
    "an unknown type": _described(dtype="F128"),
    "8 bits": _described(dtype="F8_E4M3", shape=[64]),
    "the same name twice": _with_header(b"{" + b",".join([_ENTRY] * 2) + b"}"),
    "NaN": _each(lambda tensor: tensor * float("nan") if tensor.is_floating_point() else tensor),
    "infinities": _each(lambda tensor: tensor + float("inf") if tensor.is_floating_point() else tensor),
    "doubles": _each(lambda tensor: tensor.double()),
    "whole numbers": _each(lambda tensor: tensor.long()),
    "truth values": _each(lambda tensor: tensor.bool()),
    "bfloat16": _each(lambda tensor: tensor.bfloat16()),
    "transposed": _each(lambda tensor: tensor.T.contiguous() if tensor.ndim == 2 else tensor),
    "flat": _each(lambda tensor: tensor.flatten()),
    "a tensor less": _tensors(lambda found: found.pop(max(found))),
    "a tensor more": _tensors(lambda found: found.update(more=torch.zeros(1))),
    "a name with a line break": _tensors(lambda found: found.update({"\x1b[2J\n": torch.zeros(1)})),
    "10,000 tensors more": _tensors(lambda found: found.update({f"more{i}": torch.zeros(1) for i in range(10_000)})),
    "a long name": _tensors(lambda found: found.update({"x" * 100_000: torch.zeros(1)})),
}  # fmt: skip
