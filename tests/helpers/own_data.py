"""The same few clips in each of the forms that people have: class folders, tables, plain lists, UCF101's own lists."""

from collections.abc import Mapping
from pathlib import Path

from har_cache.data.splits import TEST, TRAIN, VALIDATE

WORDS = {TRAIN: "train", VALIDATE: "val", TEST: "test"}

# The subset of each clip in two splits; names as in UCF101, where groups are sources.
UCF101: Mapping[str, tuple[int, int]] = {
    f"{name}/v_{name}_g0{group}_c0{clip}.avi": (
        (TEST if group == 1 else TRAIN),
        (TEST if group == 2 else TRAIN),
    )
    for name in ("Archery", "Basketball")
    for group in (1, 2, 3)
    for clip in (1, 2)
}


def write_clips(folder: Path, *names: str, content: bytes = b"good") -> Path:
    """Files of these names, which no decoder has to read."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_text(path: Path, *lines: str, end: str = "\n") -> Path:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}{end}" for line in lines), newline="")
    return path


def table(path: Path, clips: Mapping[str, tuple[int, ...]] = UCF101) -> list[str]:
    """`--list` of one table with a column for each split."""
    count = len(next(iter(clips.values())))
    header = ",".join(["path", "label", *(f"split{i + 1}" for i in range(count))])
    rows = (
        ",".join([key, key.partition("/")[0], *(WORDS[subset] for subset in subsets)]) for key, subsets in clips.items()
    )
    return [str(write_text(path, header, *rows))]


def plain_lists(folder: Path, clips: Mapping[str, tuple[int, ...]] = UCF101) -> list[str]:
    """`--list` of mmaction2's lines, their labels numbers, a list for each split and subset."""
    classes = sorted({key.partition("/")[0] for key in clips})
    given = []
    for split in range(len(next(iter(clips.values())))):
        for subset, word in WORDS.items():
            lines = [
                f"{k} {classes.index(k.partition('/')[0])}" for k, subsets in clips.items() if subsets[split] == subset
            ]
            if lines:
                path = write_text(folder / f"{word}_split_{split + 1}.txt", *lines)
                given.append(f"{word}{split + 1}={path}")
    return given


def ucf101_lists(folder: Path, clips: Mapping[str, tuple[int, ...]] = UCF101) -> Path:
    """The files that UCF101 comes with."""
    classes = sorted({key.partition("/")[0] for key in clips})
    write_text(folder / "classInd.txt", *(f"{i} {name}" for i, name in enumerate(classes, start=1)), end="\r\n")
    for split in range(len(next(iter(clips.values())))):
        train = [
            f"{k} {classes.index(k.partition('/')[0]) + 1}" for k, subsets in clips.items() if subsets[split] == TRAIN
        ]
        write_text(folder / f"trainlist0{split + 1}.txt", *train, end="\r\n")
        write_text(folder / f"testlist0{split + 1}.txt", *(k for k, s in clips.items() if s[split] == TEST))
    return folder
