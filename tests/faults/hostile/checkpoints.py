"""Hostile checkpoints: code in pickles, lies of zip archives, states that do not fit; trainings that go on there."""

import io
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from har_cache.encoder.weights import find_weights
from har_cache.settings.training import HeadSettings, TrainHeadSettings, TrainSettings
from har_cache.training.checkpoints import load_checkpoint, sealed
from har_cache.training.train_head import train_head

from .case import Calls, Case
from .place import Place, edit, put

_LAST, _BEST = "last.ckpt", "best.ckpt"
_SAME = TrainSettings(epochs=6, frames=4)


def cases(rng: random.Random, world: Path) -> Iterator[Case]:
    """All of them."""
    found = [Case("checkpoints", name, _raw(make)) for name, make in _RAW.items()]
    found += [Case("checkpoints", f"state, {name}", _changed(change)) for name, change in _CHANGES.items()]
    rng.shuffle(found)
    yield from found


class _Bomb:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def _calls(place: Place, data: bytes) -> Calls:
    run = place.copy("run")
    put(run / _LAST, data)
    put(run / _BEST, data)
    edit(run / "config.json", lambda content: [content.pop(name) for name in ("best", "model_sha256")])
    weights = place.work / "weights.pth"
    weights.write_bytes(data)
    settings = TrainHeadSettings(
        cache=place.world / "cache", run=run, training=_SAME, head=HeadSettings(hidden=8), device="cpu", resume=True
    )
    return {
        "load_checkpoint": lambda: load_checkpoint(run / _LAST),
        "train-head --resume": lambda: train_head(settings),
        "--weights FILE.pth": lambda: find_weights(str(weights)),
    }


def _raw(make: Callable[[Place], bytes]) -> Callable[[Place], Calls]:
    return lambda place: _calls(place, make(place))


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Place], Calls]:
    def make(place: Place) -> Calls:
        state = torch.load(place.world / "run" / _LAST, weights_only=True)
        state["rows"] = state["rows"][:5]  # an epoch is left to be trained
        change(state)
        return _calls(place, _saved(state))

    return make


def _saved(state: Any, seal: bool = True, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, **how)
    return sealed(file.getvalue()) if seal else file.getvalue()


def _with_pickle(pickled: bytes, kind: int = zipfile.ZIP_STORED, more: dict[str, bytes] | None = None) -> bytes:
    """A sealed archive as torch writes it, of this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in {"archive/data.pkl": pickled, "archive/version": b"3\n", **(more or {})}.items():
            archive.writestr(name, data)
    return sealed(file.getvalue())


def _state_with(value: Any) -> bytes:
    return pickle.dumps({"schema": "har-checkpoint/1", "state_dict": {}, "x": value}, protocol=2)


def _touch(place: Place) -> _Bomb:
    return _Bomb(Path.touch, place.marker)


def _lying(data: bytes) -> bytes:
    """The directory of the archive says that its first file has 2^31 bytes."""
    at = data.index(b"PK\x01\x02")
    return sealed((data[: at + 20] + struct.pack("<II", 1 << 31, 1 << 31) + data[at + 28 :])[:-66] + b"\0\0")


_OPCODES = pickle.PROTO + b"\x02"
_RAW: dict[str, Callable[[Place], bytes]] = {
    "a plain pickle with code": lambda place: _state_with(_touch(place)),
    "a sealed pickle with code": lambda place: sealed(_state_with(_touch(place)) + b"\0\0"),
    "code in the state": lambda place: _saved({"state_dict": {}, "x": _touch(place)}),
    "code as a key": lambda place: _with_pickle(_state_with({1: _touch(place)})),
    "a call of a shell": lambda place: _with_pickle(_state_with(_Bomb(os.system, f"touch {place.marker}"))),
    "eval": lambda place: _with_pickle(_state_with(_Bomb(eval, f"open({str(place.marker)!r}, 'w')"))),
    "exec": lambda place: _with_pickle(_state_with(_Bomb(exec, f"open({str(place.marker)!r}, 'w')"))),
    "getattr": lambda place: _with_pickle(_state_with(_Bomb(getattr, place.marker, "touch"))),
    "code of old torch": lambda place: _saved({"x": _touch(place)}, _use_new_zipfile_serialization=False),
    "old torch": lambda place: _saved({"state_dict": {}}, _use_new_zipfile_serialization=False),
    "no bytes": lambda place: b"",
    "no bytes, sealed": lambda place: sealed(b"\0\0"),
    "noise, sealed": lambda place: sealed(random.Random(0).randbytes(5000) + b"\0\0"),
    "an empty archive": lambda place: sealed(b"PK\x05\x06" + bytes(18)),
    "an empty pickle": lambda place: _with_pickle(b""),
    "a pickle that ends early": lambda place: _with_pickle(_state_with(1)[:-9]),
    "depths": lambda place: _with_pickle(_OPCODES + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "tuples in tuples": lambda place: _with_pickle(_OPCODES + b")" + b"\x85" * 200_000 + b"."),
    "a number of 2^31 bytes": lambda place: _with_pickle(_OPCODES + b"\x8b\xff\xff\xff\x7f."),
    "a text of 2^32 bytes": lambda place: _with_pickle(_OPCODES + b"X\xff\xff\xff\xff."),
    "bytes of 2^63": lambda place: _with_pickle(_OPCODES + b"\x8e" + struct.pack("<Q", 1 << 63) + b"."),
    "an unknown opcode": lambda place: _with_pickle(_OPCODES + b"\xfe."),
    "a stack without a mark": lambda place: _with_pickle(_OPCODES + b"u."),
    "a memo that is not there": lambda place: _with_pickle(_OPCODES + b"h\x07."),
    "a memo at 2^31": lambda place: _with_pickle(_OPCODES + b"Nr\xff\xff\xff\x7f."),
    "a billion laughs": lambda place: _with_pickle(_state_with(_laughs())),
    "a rebuilt tensor of nonsense": lambda place: _with_pickle(
        _state_with(_Bomb(torch._utils._rebuild_tensor_v2, None, 0, (1 << 40,), (1,), False, None))
    ),
    "zeros that deflate": lambda place: _with_pickle(bytes(200_000_000), zipfile.ZIP_DEFLATED),
    "a way up": lambda place: _with_pickle(_state_with(1), more={"../../outside/x": b"1", "/etc/x": b"2"}),
    "10,000 files": lambda place: _with_pickle(_state_with(1), more={f"archive/data/{i}": b"" for i in range(10_000)}),
    "a lie about a size": lambda place: _lying(_with_pickle(_state_with(1))),
    "byte order of nowhere": lambda place: _with_pickle(_state_with(1), more={"archive/byteorder": b"middle"}),
    "a version of nowhere": lambda place: _with_pickle(_state_with(1), more={"archive/.format_version": b"\xff" * 99}),
}  # fmt: skip


def _laughs() -> list[Any]:
    found: list[Any] = ["ha"]
    for _ in range(60):
        found = [found, found]
    return found


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.__setitem__(name, value)


def _tensors(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update(state_dict={name: change(t) for name, t in state["state_dict"].items()})


_CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"{name}: {str(value)[:20]}": _set(name, value)
        for name in ("rows", "steps", "optimizer", "model", "state_dict", "schema")
        for value in (None, -1, 1 << 70, float("nan"), "x", [], {}, [1], {"x": 1}, (None,) * 9)
    },
    **{f"no {name}": lambda s, n=name: s.pop(n) for name in ("rows", "steps", "optimizer", "model", "state_dict")},
    "rows without columns": _set("rows", [{}]),
    "rows of texts": _set("rows", [dict.fromkeys(("epoch", "val_loss", "train_loss"), "x")]),
    "a million rows": lambda state: state.update(rows=state["rows"] * 200_000),
    "NaN": _tensors(lambda tensor: tensor * float("nan")),
    "doubles": _tensors(lambda tensor: tensor.double()),
    "sparse": _tensors(lambda tensor: tensor.to_sparse()),
    "without data": _tensors(lambda tensor: tensor.to("meta")),
    "flat": _tensors(lambda tensor: tensor.flatten()),
    "texts": _tensors(lambda tensor: "x"),
    "complex": _tensors(lambda tensor: tensor.to(torch.complex64)),
    "no parameters": lambda state: state["optimizer"].update(param_groups=[{"params": []}] * 2),
    "other parameters": lambda state: state["optimizer"]["param_groups"][0].update(params=[99, 98]),
    "moments of texts": lambda state: state["optimizer"].update(state={0: {"step": "x", "exp_avg": "y"}}),
    "moments that do not fit": lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
}
