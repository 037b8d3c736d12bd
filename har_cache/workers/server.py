"""The process that worker processes are forked from: it imports torch once, and never decodes anything."""

import multiprocessing
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

from ..system import uninterrupted


def fork_server() -> ForkServerContext:
    """The running server's context. Called before this process imports torch itself, the two imports overlap."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["har_cache.workers.tasks"])
    resource_tracker.ensure_running()  # now, since it unblocks SIGINT
    with uninterrupted():
        forkserver.ensure_running()
    return context
