"""Data sets in HMDB51's own wrapping, with clips of a few bytes: RARs in a RAR, and a RAR of split lists."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from har_cache.data.hmdb51 import CLASS_NAMES, CLIPS, Archive, Release
from har_cache.data.splits import read_list

from .rars import Member, write_rar
from .shared import OFFICIAL_LISTS

ODD = ["-_a_{}", "#2_[x]_&_{}", "(HQ)_!_{}", "Geena_;-)_+_~_@_{}", "How_to_{}_f_{}"]
SMALL = ("clap", "climb", "climb_stairs")


@dataclass(frozen=True)
class Copy:
    """A release, its archives in a folder, and what clips and lists hold, by file name."""

    release: Release
    folder: Path
    clips: dict[str, dict[str, bytes]]  # by class
    lists: dict[str, bytes]

    @property
    def files(self) -> dict[str, bytes]:
        """What a website of it serves, by path."""
        return {f"/{path.name}": path.read_bytes() for path in self.folder.iterdir()}

    def tree(self) -> dict[str, bytes]:
        """What a complete copy holds, by path."""
        clips = {f"hmdb51_org/{c}/{name}": data for c, files in self.clips.items() for name, data in files.items()}
        return {**clips, **{f"testTrainMulti_7030_splits/{name}": data for name, data in self.lists.items()}}


def small_copy(folder: Path, mirrors: tuple[str, ...] = ()) -> Copy:
    """Three classes with a clip of each odd name."""
    names = {c: [f"{odd}_{{}}_f_cm_np1_ri_med_{i}.avi".replace("{}", c) for i, odd in enumerate(ODD)] for c in SMALL}
    lists = {
        f"{c}_test_split{k}.txt": "".join(f"{n} 1 \r\n" for n in names[c]).encode() for c in SMALL for k in (1, 2, 3)
    }
    return make_copy(folder, names, lists, mirrors)


def full_copy(folder: Path) -> Copy:
    """51 classes and 6,766 clips: the official names where the official lists are here, else invented ones."""
    if OFFICIAL_LISTS.is_dir():
        lists = {path.name: path.read_bytes() for path in OFFICIAL_LISTS.iterdir()}
        names = {c: list(read_list(OFFICIAL_LISTS / f"{c}_test_split1.txt")) for c in CLASS_NAMES}
    else:
        numbers = {c: range(i, CLIPS, len(CLASS_NAMES)) for i, c in enumerate(CLASS_NAMES)}
        names = {
            c: [f"{ODD[i % 5]}_{{}}_f_cm_np1_ri_med_{i}.avi".replace("{}", c) for i in numbers[c]] for c in CLASS_NAMES
        }
        lists = {
            f"{c}_test_split{k}.txt": "".join(f"{n} 1 \n" for n in names[c]).encode()
            for c in CLASS_NAMES
            for k in (1, 2, 3)
        }
    return make_copy(folder, names, lists)


def make_copy(
    folder: Path, names: dict[str, list[str]], lists: dict[str, bytes], mirrors: tuple[str, ...] = ()
) -> Copy:
    folder.mkdir()
    clips = {c: {name: f"content of {name}".encode() for name in names[c]} for c in names}
    videos = write_rar(folder / "hmdb51_org.rar", [Member(f"{c}.rar", class_rar(folder, c, clips[c])) for c in clips])
    splits = write_rar(
        folder / "test_train_splits.rar",
        [Member(f"testTrainMulti_7030_splits/{name}", data) for name, data in lists.items()],
    )
    release = Release(tuple(names), sum(map(len, names.values())), archive(videos), archive(splits), mirrors)
    return Copy(release, folder, clips, lists)


def class_rar(folder: Path, name: str, clips: dict[str, bytes]) -> bytes:
    """The archive of one class."""
    path = write_rar(folder / "class.rar", [Member(f"{name}/{file}", data) for file, data in clips.items()])
    data = path.read_bytes()
    path.unlink()
    return data


def archive(path: Path) -> Archive:
    """As it would be published."""
    return Archive(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), 1 << 30)
