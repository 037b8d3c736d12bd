"""A run directory: begun, gone on with, finished; which clips trained, and the weights that came of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from ..devices import Say, changed_versions, kind_of, warn
from ..errors import FileError, RunError
from ..files import foreign_names, make_directory, read_csv, read_file, remove_file, sha256, to_csv, write_file
from ..settings import SPLITS
from .config import CONFIG, HEAD, RunConfig, read_config, write_config
from .head import Head

CLIPS, METRICS, CURVES = "clips.csv", "metrics.csv", "curves.png"
BEST, LAST, MODEL = "best.ckpt", "last.ckpt", "model.safetensors"
ENCODER = "encoder.safetensors"  # of the cache; a fine-tuned run has its own encoder in MODEL
EVALUATIONS, REPORT = "evaluate", "report.html"
_ONE_FILE_EACH = (CONFIG, CLIPS, METRICS, CURVES, BEST, LAST, MODEL, ENCODER, REPORT)
SUBSETS = ("train", "val")


@dataclass(frozen=True)
class Run:
    """A finished run. `clips` says which subset each clip of the training list was in, `train` or `val`, by key."""

    path: Path
    config: RunConfig
    clips: dict[str, str]

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The finished run in this directory. Raises HarCacheError if it is none, unfinished or damaged."""
        config = read_config(path)
        if config is None:
            kind = "is no run" if path.is_dir() else "no such directory"
            raise RunError(f"{path}: {kind}; make one with `har-cache train-head --run {path}`")
        if not config.finished:
            raise RunError(f"{path}: training is not finished; go on with `har-cache train-head --resume`")
        return cls(path, config, read_clips(path))

    @property
    def model_sha256(self) -> str:
        """Of model.safetensors."""
        assert self.config.model_sha256 is not None  # of a finished run
        return self.config.model_sha256

    def load_head(self) -> Head:
        """The head of the best epoch, on the CPU, in eval mode. Raises HarCacheError where it does not fit."""
        head = Head(len(self.config.classes), self.config.head)
        try:
            head.load_state_dict(self.state("head"), strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{self.path / MODEL}: does not fit the head that {CONFIG} describes: {reason}") from error
        return head.eval()

    def state(self, part: str) -> dict[str, Tensor]:
        """The tensors of `head` or, in a fine-tuned run, `encoder`, by their names in it. Raises HarCacheError."""
        file = self.path / MODEL
        data = read_file(file)
        if sha256(data) != self.model_sha256:
            raise RunError(f"{file}: damaged or replaced (its sha256 is not that of {CONFIG}); train again")
        try:
            tensors = safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise RunError(f"{file}: is no safetensors file; train again") from error
        if self.config.stage == HEAD:
            return tensors if part == "head" else {}
        prefix = f"{part}."
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def split_runs(path: Path) -> dict[int, Path]:
    """The run of each split below `path`: those of `--split all`, or the one that `path` itself is."""
    found = {split: split_path(path, split) for split in SPLITS if (split_path(path, split) / CONFIG).is_file()}
    return found or {Run.open(path).config.split: path}


def split_path(path: Path, split: int) -> Path:
    """The directory in which `--split all` trains this split."""
    return path / f"split{split}"


def check_free(path: Path, resume: bool, overwrite: bool) -> None:
    """Raise RunError where a run is in the way."""
    if overwrite or resume or not (config := read_config(path)):
        return
    raise RunError(
        f"{path}: holds a finished run; choose another --run directory, or pass --overwrite to replace it"
        if config.finished
        else f"{path}: holds an unfinished run; go on with --resume, or start over with --overwrite"
    )


def begin(
    path: Path,
    config: RunConfig,
    clips: Mapping[str, str],
    resume: bool = False,
    overwrite: bool = False,
    encoder: bytes | None = None,
    say: Say = warn,
) -> bool:
    """Begin a run, or go on with it; false where it is finished.

    `clips`: the subset of each, by key; `encoder`: that of the cache, to be kept. `say` is told where the run goes on
    with another device or version than it was begun with. Raises HarCacheError where a run is in the way, or the one
    to go on with was begun with other settings.
    """
    check_free(path, resume, overwrite)
    _create(path)
    if overwrite:
        clear(path)
    begun = read_config(path)
    if begun is None:
        clear(path)
        write_clips(path, dict(sorted(clips.items())))
        if encoder is not None:
            write_file(path / ENCODER, encoder)
        write_config(path, config)
        return True
    changed = _differences(begun, config)
    changed += ["clips of the training list"] if read_clips(path) != clips else []
    if changed:
        raise RunError(f"{path}: was begun with other settings ({'; '.join(changed)}); give the same, or --overwrite")
    if begun.finished:
        return False
    if moved := _moved(begun, config):
        say(f"WARNING: {path}: was begun with {'; '.join(moved)}: it may end with slightly other figures")
    return True


def _moved(old: RunConfig, new: RunConfig) -> list[str]:
    """The kind of device, and versions, that a resumed run does not share with its beginning."""
    kinds = [kind_of(config.device) for config in (old, new)]
    device = [f"device {kinds[0]}, now {kinds[1]}"] if all(kinds) and kinds[0] != kinds[1] else []
    return device + changed_versions(old.versions, new.versions)


def _differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Settings that a resumed run must share with its beginning, and does not."""
    found = [name for name in ("stage", "split", "fingerprint", "classes") if getattr(old, name) != getattr(new, name)]
    start = [config.started_from and config.started_from.model_sha256 for config in (old, new)]
    found += ["the run it starts from"] if start[0] != start[1] else []
    before, now = ({**vars(config.head), **vars(config.training)} for config in (old, new))
    return found + [
        f"{name} {before.get(name)}, now {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def read_clips(path: Path) -> dict[str, str]:
    """The subset of each clip, by key. Raises HarCacheError."""
    file = path / CLIPS
    try:
        rows = read_csv(file)
    except FileError as error:
        raise RunError(f"{error}; train again with --overwrite") from error
    if not rows or rows[0] != ["key", "subset"] or any(len(row) != 2 or row[1] not in SUBSETS for row in rows[1:]):
        raise RunError(f"{file}: damaged; expected rows of key,train or key,val")
    return dict(rows[1:])


def write_clips(path: Path, clips: Mapping[str, str]) -> None:
    """Commit clips.csv."""
    write_file(path / CLIPS, to_csv(("key", "subset"), clips.items()))


def save_model(model: nn.Module, path: Path) -> str:
    """Commit model.safetensors; gives its sha256."""
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_file(path / MODEL, data)
    return sha256(data)


def clear(path: Path) -> None:
    """Remove the run in this directory, config first; what is not a run's stays. Raises FileError."""
    for name in _ONE_FILE_EACH:
        remove_file(path / name)
    shutil.rmtree(path / EVALUATIONS, ignore_errors=True)  # figures of a run that is no more


def _create(path: Path) -> None:
    """Make the directory. Raises HarCacheError where it holds other things than a run."""
    make_directory(path)
    foreign = foreign_names(path, (*_ONE_FILE_EACH, EVALUATIONS))
    if foreign and not (path / CONFIG).exists():
        raise RunError(f"{path}: holds other files ({min(foreign)}, ...); choose an empty directory")
