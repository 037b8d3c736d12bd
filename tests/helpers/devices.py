"""The process of a device, made light: its batches are small ones; or stuck."""

import signal
import time
from typing import Any

from har_cache.extraction import gpu_batches, gpus

SMALL_BATCH = 16
_serve = gpus._serve


def serve(*arguments: Any) -> None:
    """In the place of `gpus._serve`."""
    gpu_batches.BATCH = SMALL_BATCH
    _serve(*arguments)


def stuck(*arguments: Any) -> None:
    """In its place, too: a process whose device does not answer."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    gpus.run_on_device = lambda *_: time.sleep(1000)
    _serve(*arguments)
