"""The script that a program is run from, which worker processes do without.

multiprocessing has each process that it starts import that script again, for what may be defined in it; without
`if __name__ == "__main__":` the script then starts over, in every process. Nothing that our workers run is in it.
"""

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from ..errors import HarCacheError

_NAMES_OF_MAIN = {"init_main_from_name", "init_main_from_path"}  # in what multiprocessing tells a new process
_starting = threading.local()
_all_preparation_data = spawn.get_preparation_data


@contextmanager
def without_main_module() -> Iterator[None]:
    """A process that this thread starts meanwhile does not import the program's main module. Those that others start,
    which may be of the user's own, do as ever.
    """
    spawn.get_preparation_data = _preparation_data
    _starting.ours = True
    try:
        yield
    finally:
        _starting.ours = False


def _preparation_data(name: str) -> dict[str, Any]:
    found = _all_preparation_data(name)
    ours = getattr(_starting, "ours", False)
    return {key: value for key, value in found.items() if not (ours and key in _NAMES_OF_MAIN)}


def check_main_module() -> None:
    """Raise HarCacheError, which says what to write, in a process that imports a script since multiprocessing, for
    somebody else, has it do so: one whose work is not under `if __name__ == "__main__":`.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    main = sys.modules.get("__mp_main__")
    file = Path(getattr(main, "__file__", None) or "the script").name
    raise HarCacheError(
        f"{file} is imported by a process that it has started, as multiprocessing and DataLoader workers do, and would "
        'start over in it: put what it does, all but imports and definitions, under `if __name__ == "__main__":`'
    )
