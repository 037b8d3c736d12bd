"""Memory that processes share: an anonymous file (Linux), which the kernel frees when the last process that has it open
ends, however it ends; and unlike /dev/shm, containers do not cut it down to 64 MB.
"""

import mmap
import os

import numpy as np

from ..errors import HarCacheError


def create_memory(size: int, label: str) -> tuple[int, str]:
    """`size` bytes of zeros, which take memory only as they are written: a file, to be closed when nobody needs to open
    the memory any more, and the name to open it by. Raises HarCacheError where the system has no such files.
    """
    if not hasattr(os, "memfd_create"):
        raise HarCacheError(
            "frames go from process to process in memory files that only Linux has: fine-tuning, its evaluation, and "
            "extraction on a GPU need Linux"
        )
    file = os.memfd_create(f"har-cache {label}")
    os.ftruncate(file, size)
    return file, f"/proc/{os.getpid()}/fd/{file}"


def open_memory(name: str) -> mmap.mmap:
    """The memory of that name, mapped."""
    file = os.open(name, os.O_RDWR)
    try:
        return mmap.mmap(file, 0)
    finally:
        os.close(file)


class SharedArray:
    """An array of some process that others read: it creates it from an array, `open_array(name)` gives them theirs. A
    context manager.
    """

    def __init__(self, array: np.ndarray, label: str) -> None:
        self._file, self.name = create_memory(array.nbytes, label)
        os.pwrite(self._file, array.data.cast("B"), 0)

    def __enter__(self) -> "SharedArray":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def open_array(name: str, dtype: type[np.generic]) -> np.ndarray:
    """The array of that name, flat."""
    array = np.frombuffer(open_memory(name), dtype)
    array.flags.writeable = False
    return array
