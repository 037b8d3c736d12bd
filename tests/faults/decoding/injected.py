"""Decoders that crash, hang and eat memory, at once or in the middle of a clip, where the name of a file asks for it.

A mutant that does so is rare: none of 2,000 did. So they are made.
"""

import ctypes
import itertools
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

_MET = "HAR_CACHE_TEST_MET"  # a folder: which clips have done it already
_ASKED = re.compile(r"\d+_(\w+)_at(\d+)\.")


def on_path(folder: Path) -> dict[str, str]:
    """An environment in which every Python process has such decoders; `folder` takes what that needs."""
    root = Path(__file__).parents[3]
    (folder / "met").mkdir(parents=True)
    module = "from tests.faults.decoding.injected import install\ninstall()\n"
    (folder / "sitecustomize.py").write_text(module)
    paths = [str(folder), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), _MET: str(folder / "met")}


def install() -> None:
    """Break `av.open` in this process."""
    real = av.open

    def broken(file: str, *args: Any, **kwargs: Any) -> Any:
        asked = _ASKED.match(Path(file).name)
        if asked is None:
            return real(file, *args, **kwargs)
        misbehave = MISBEHAVIOURS[asked[1]].act
        return _Broken(real(file, *args, **kwargs), int(asked[2]), lambda: misbehave(Path(file).name))

    av.open = broken


class _Broken:
    """A container that misbehaves when that many packets have been read; before the first one where it is none."""

    def __init__(self, container: Any, after: int, misbehave: Callable[[], None]) -> None:
        if not after:
            misbehave()
        self._container, self._after, self._misbehave = container, after, misbehave

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> "_Broken":
        return self

    def __exit__(self, *_: Any) -> None:
        self._container.close()

    def demux(self, *streams: Any) -> Iterator[Any]:
        for i, packet in enumerate(self._container.demux(*streams), 1):
            if i == self._after:
                self._misbehave()
            yield packet


def _dying(number: signal.Signals) -> Callable[[str], None]:
    def die(_: str) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # leave no core file behind
        os.kill(os.getpid(), number)
        raise AssertionError("still alive")

    return die


def _hang(_: str) -> None:
    ctypes.PyDLL(None).sleep(600)  # in C, and with the GIL held
    raise AssertionError("not killed in 600 s")


def _wait(_: str) -> None:
    ctypes.CDLL(None).sleep(600)
    raise AssertionError("not killed in 600 s")


def _spin(_: str) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        pass
    raise AssertionError("not killed in 600 s")


def _hog(_: str) -> None:
    hoard = [np.empty(64 << 20, np.uint8) for _ in range(1024)]
    raise AssertionError(f"got {len(hoard) / 16} GiB")


def _fill(_: str) -> None:
    hoard = b"".join(bytes([i]) * (32 << 20) for i in itertools.islice(itertools.cycle(range(256)), 2048))
    raise AssertionError(f"got {len(hoard)} bytes")


def _once(name: str) -> None:
    """The first time that the clip is decoded to be embedded: not where some of its frames are sampled before."""
    mark = Path(os.environ[_MET]) / name
    tasks = sys.modules["har_cache.workers.tasks"]  # not imported above: every Python process has this module
    if tasks._encoder is not None and not mark.exists():
        mark.touch()
        _dying(signal.SIGSEGV)(name)


class Misbehaviour:
    """What a decoder does, in which row of the table it counts, and the reason that the clip has to be named with; none
    where a second attempt succeeds.
    """

    def __init__(self, act: Callable[[str], None], kind: str, reason: str) -> None:
        self.act, self.kind, self.reason = act, kind, reason


_CRASH, _HANG, _MEMORY = "decoders that crash", "decoders that hang", "decoders that eat memory"
MISBEHAVIOURS = {
    "segv": Misbehaviour(_dying(signal.SIGSEGV), _CRASH, "the decoder crashes: SIGSEGV"),
    "hang": Misbehaviour(_hang, _HANG, "the decoder hangs: no frame for"),
    "hog": Misbehaviour(_hog, _MEMORY, "decoding it takes more than the 2 GiB of memory"),
    "once": Misbehaviour(_once, "decoders that crash once", ""),
    "abort": Misbehaviour(_dying(signal.SIGABRT), _CRASH, "the decoder crashes: SIGABRT"),
    "wait": Misbehaviour(_wait, _HANG, "the decoder hangs: no frame for"),
    "fill": Misbehaviour(_fill, _MEMORY, "decoding it takes more than the 2 GiB of memory"),
    "divide": Misbehaviour(_dying(signal.SIGFPE), _CRASH, "the decoder crashes: SIGFPE"),
    "spin": Misbehaviour(_spin, _HANG, "the decoder hangs: no frame for"),
    "leave": Misbehaviour(lambda _: os._exit(3), _CRASH, "the decoder ends its process with status 3"),
    "bus": Misbehaviour(_dying(signal.SIGBUS), _CRASH, "the decoder crashes: SIGBUS"),
}
