"""The standard streams where they are closed, full, or no longer read."""

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def open_streams() -> None:
    """Where stdin, stdout or stderr is closed, open /dev/null in its place: else the next file that is opened, one of a
    cache say, would get its number, and what libraries print on stderr would go into that file.
    """
    for number, mode in enumerate("rww"):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
        name = ("stdin", "stdout", "stderr")[number]
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def write(stream: TextIO, text: str) -> None:
    """Write a text and a line break at once, escaping what the stream's encoding lacks. Raises OSError."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


@contextmanager
def given_up() -> Iterator[None]:
    """Give up what is written on stderr where that fails, now and from now on."""
    try:
        yield
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Have a stream that cannot be written lead to /dev/null: else what a library prints there later raises."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
