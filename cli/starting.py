"""Ctrl-C while the command is imported: it ends the process at once. Python would print a traceback of imports."""

import signal
import threading

_before = signal.getsignal(signal.SIGINT)
_OURS = _before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
if _OURS:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def imported() -> None:
    """All is imported: from here on Ctrl-C is an exception again."""
    if _OURS:
        signal.signal(signal.SIGINT, _before)
