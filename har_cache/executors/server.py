"""The process that worker processes are forked from: it imports torch once, and never decodes anything."""

import multiprocessing
import signal
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext


def fork_server() -> ForkServerContext:
    """The running server's context. Called before this process imports torch itself, the two imports overlap."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["har_cache.worker"])
    resource_tracker.ensure_running()  # now, since it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is this process's to handle
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context
