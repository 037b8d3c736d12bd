"""Ways to make resources scarce for a command, each lifted afterwards so that it can go on in the same folder."""

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from har_cache.storage.failpoints import VARIABLE

from .subjects import ROOT, Subject, files_in, kilobytes_in

NOBODY = 65534
_CAPABILITY = "+dac_read_search"  # the interpreter may lie where only root can read
AS_NOBODY = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    f"--inh-caps={_CAPABILITY}",
    f"--ambient-caps={_CAPABILITY}",
]
_ROOMY = "size=2g,nr_inodes=100k"


@dataclass
class Room:
    """Where a command runs: `folder`, with what is there before; how it is started under the limit: what to do in its
    process first, changes of its environment (None: without that variable), what comes before the command;
    how the limit is `lift`ed.
    `quiet`: whether nobody can read what it says.
    """

    folder: Path
    first: Callable[[], None] = lambda: None
    env: Mapping[str, str | None] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    lift: Callable[[], None] = lambda: None
    quiet: bool = False


@dataclass(frozen=True)
class Limit:
    """A limit: the row that it counts in, a detail, and a context with the room that has it, in a new folder."""

    kind: str
    detail: str
    make: Callable[[Subject, Path, Path], Iterator[Room]]

    @contextmanager
    def room(self, subject: Subject, world: Path, path: Path) -> Iterator[Room]:
        """The room, which is gone afterwards but for a plain folder."""
        yield from self.make(subject, world, path)


def limits(rng: random.Random) -> Iterator[Limit]:
    """Without end; the first ones differ most."""
    while True:
        # In less than 4 GB of addresses torch's libraries themselves cannot be loaded.
        kilobytes, descriptors = rng.choice((20, 200, 3000)), rng.choice((24, 64))
        share, gigabytes, processes = rng.random(), rng.choice((4, 6)), rng.choice((2, 8, 24))
        if can_mount():
            yield Limit("a full disk", f"room for {share:.0%} of what it writes", _disk(share))
            yield Limit("no inodes left", f"for {share:.0%} of its files", _inodes(share))
        else:
            step = f"written:*@{rng.randint(1, 4)}=ENOSPC"
            yield Limit("a full disk, as a failpoint says", step, _plain(env={VARIABLE: step}))
        yield Limit("a limit on file sizes", f"{kilobytes} KB", _resource(resource.RLIMIT_FSIZE, kilobytes << 10))
        yield Limit("few open files", f"{descriptors}", _resource(resource.RLIMIT_NOFILE, descriptors))
        yield Limit("little memory", f"{gigabytes} GB of addresses", _resource(resource.RLIMIT_AS, gigabytes << 30))
        yield Limit("one core", "", _plain(first=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})))
        if can_be_nobody():
            yield Limit("few processes", f"{processes}", _as_nobody(_few_processes(processes)))
            yield Limit("a folder that may not be written", "", _as_nobody(lambda: None, read_only=True))
        if can_mount():
            yield Limit("a read-only file system", "", _read_only)
        number, full = rng.choice((0, 1, 2)), rng.choice((1, 2))
        yield Limit("closed streams", f"{number}", _plain(first=lambda n=number: os.close(n), quiet=number == 2))
        yield Limit("streams to /dev/full", f"{full}", _plain(first=lambda n=full: _to_full(n), quiet=full == 2))
        yield Limit("a working directory that is gone", "", _plain(first=_leave_nowhere))
        for name, env in ENVIRONMENTS[rng.randrange(2) :: 2]:
            yield Limit("odd environments", name, _plain(env=env))


ENVIRONMENTS: Sequence[tuple[str, Mapping[str, str | None]]] = (
    ("TMPDIR is no directory", {"TMPDIR": "/dev/null"}),
    ("TMPDIR cannot be written", {"TMPDIR": "/proc"}),
    ("no HOME", {"HOME": None}),
    ("HOME is not there", {"HOME": "/nonexistent/home"}),
    ("LANG=C", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    ("no environment but PATH", {"HOME": None, "LANG": None, "USER": None, "TMPDIR": None, "TERM": None}),
)


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Of a command, with the code of here."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    return {**kept, "PYTHONPATH": path, **{name: value for name, value in changes.items() if value is not None}}


@cache
def can_mount() -> bool:
    """Whether file systems of a size can be had here."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            stack.enter_context(_mounted(Path(folder), "size=1m"))
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


@cache
def can_be_nobody() -> bool:
    """Whether commands can run here as a user whose rights are limited."""
    code = [*AS_NOBODY, sys.executable, "-c", "import har_cache_cli.main"]
    try:
        return subprocess.run(code, env=environment({}), cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def _mounted(path: Path, options: str) -> Iterator[None]:
    """A file system in memory at `path`."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "har-cache", path], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True, capture_output=True)


def _remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True, capture_output=True)


def _plain(
    first: Callable[[], None] = lambda: None, env: Mapping[str, str | None] | None = None, quiet: bool = False
) -> Callable[[Subject, Path, Path], Iterator[Room]]:
    def make(subject: Subject, world: Path, path: Path) -> Iterator[Room]:
        yield Room(subject.folder(world, path), first, env or {}, quiet=quiet)

    return make


def _resource(number: int, amount: int) -> Callable[[Subject, Path, Path], Iterator[Room]]:
    return _plain(first=lambda: resource.setrlimit(number, (amount, amount)))


def _few_processes(count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NPROC, (count, count))


def _to_full(number: int) -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), number)


def _leave_nowhere() -> None:
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    Path(gone).rmdir()


def _disk(share: float) -> Callable[[Subject, Path, Path], Iterator[Room]]:
    """A file system that is full once so much of what the command writes is there."""

    def make(subject: Subject, world: Path, path: Path) -> Iterator[Room]:
        written = subject.kilobytes

        def limit(given: tuple[int, int]) -> str:
            return f"size={max(4, given[0] + share * (written - given[0])):.0f}k"  # 0 would be no limit

        yield from _on_tmpfs(subject, world, path, limit)

    return make


def _inodes(share: float) -> Callable[[Subject, Path, Path], Iterator[Room]]:
    def make(subject: Subject, world: Path, path: Path) -> Iterator[Room]:
        written = subject.files
        yield from _on_tmpfs(
            subject, world, path, lambda given: f"nr_inodes={given[1] + share * (written - given[1]):.0f}"
        )

    return make


def _read_only(subject: Subject, world: Path, path: Path) -> Iterator[Room]:
    yield from _on_tmpfs(subject, world, path, lambda given: "ro")


def _on_tmpfs(subject: Subject, world: Path, path: Path, limit: Callable[[tuple[int, int]], str]) -> Iterator[Room]:
    """In a file system of its own, limited by mount options that depend on KB and inodes that are there before."""
    path.mkdir()
    with _mounted(path, _ROOMY):
        folder = subject.folder(world, path / "it")
        _remount(path, limit((kilobytes_in(path), files_in(path))))
        yield Room(folder, lift=lambda: _remount(path, f"rw,{_ROOMY}"))


def _as_nobody(first: Callable[[], None], read_only: bool = False) -> Callable[[Subject, Path, Path], Iterator[Room]]:
    """In a folder that is nobody's, with all it needs in it."""

    def make(subject: Subject, world: Path, path: Path) -> Iterator[Room]:
        with tempfile.TemporaryDirectory(dir="/tmp") as home:
            Path(home).chmod(0o755)
            folder = subject.folder(world, Path(home, "it"))
            if (folder / "data").is_symlink():
                source = (folder / "data").resolve()
                (folder / "data").unlink()
                shutil.copytree(source, folder / "data")
            for found in [folder, *folder.rglob("*")]:
                os.chown(found, NOBODY, NOBODY)
            folders = [found for found in [folder, *folder.rglob("*")] if found.is_dir()] if read_only else []
            for found in folders:
                found.chmod(0o555)
            yield Room(folder, first, {"HOME": home}, AS_NOBODY, lift=lambda: [found.chmod(0o755) for found in folders])

    return make
