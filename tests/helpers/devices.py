"""The process of a device, made light: its batches are small ones; or stuck."""

import signal
import time
from typing import Any

from har_cache.extraction.gpu import batches, processes

SMALL_BATCH = 16
_serve = processes._serve


def serve(*arguments: Any) -> None:
    """In the place of `processes._serve`."""
    batches.BATCH = SMALL_BATCH
    _serve(*arguments)


def stuck(*arguments: Any) -> None:
    """In its place, too: a process whose device does not answer."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    processes.run_on_device = lambda *_: time.sleep(1000)
    _serve(*arguments)
