"""Decoders that crash, hang, eat memory or are killed from outside, where the name of a clip asks for it."""

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any, NoReturn

import av
import numpy as np


def install() -> None:
    """Break `av.open` in this process for clips that have "segfault", "hang", "hog" or "killed" in their names."""
    real = av.open

    def fake(file: str, *args: Any, **kwargs: Any) -> Any:
        name = Path(file).name
        for word, misbehave in MISBEHAVIOUR.items():
            if word in name:
                misbehave()
        return real(file, *args, **kwargs)

    av.open = fake


def on_path(folder: Path) -> dict[str, str]:
    """An environment in which every Python process installs these decoders; `folder` takes one file."""
    (folder / "sitecustomize.py").write_text("import fake_decoders\nfake_decoders.install()\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parent)])}


def segfault() -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # leave no core file behind
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("still alive")


def hang() -> NoReturn:
    ctypes.PyDLL(None).sleep(600)  # in C, and with the GIL held
    raise AssertionError("not killed in 600 s")


def hog() -> NoReturn:
    hoard = []
    while len(hoard) < 1024:
        hoard.append(np.empty(64 << 20, np.uint8))
    raise AssertionError("got 64 GiB")


def be_killed() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does for want of memory
    raise AssertionError("still alive")


MISBEHAVIOUR = {"segfault": segfault, "hang": hang, "hog": hog, "killed": be_killed}


def sample(path: Path, count: int) -> np.ndarray:
    """`har_cache.workers.tasks.sample` over these decoders."""
    from har_cache.workers import tasks

    install()
    return tasks.sample(path, count)


def embed(*args: Any) -> Any:
    """`har_cache.workers.tasks.embed` over these decoders."""
    from har_cache.workers import tasks

    install()
    return tasks.embed(*args)


def embed_with_thumbnails(*args: Any) -> Any:
    """`har_cache.workers.tasks.embed_with_thumbnails` over these decoders."""
    from har_cache.workers import tasks

    install()
    return tasks.embed_with_thumbnails(*args)
