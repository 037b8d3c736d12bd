"""What the fork server imports, for workers to have it. It takes seconds: should the process that wants workers end
meanwhile, the server ends with it, and not after them.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import sys
from types import TracebackType

from .pool import PARENT

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def _end_with_parent(number: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Where the system has no room for another process, the one that wanted a worker tells the user; and where that one
    ends while it starts a worker, there is nobody to be told.
    """
    if not isinstance(error, OSError | EOFError | pickle.UnpicklingError):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say
_end_with_parent(signal.SIGKILL)
if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
    os._exit(0)  # it has ended already
from . import tasks  # noqa: E402, F401

_end_with_parent(0)  # a thread that ends would count as the parent; and now the server sees for itself
