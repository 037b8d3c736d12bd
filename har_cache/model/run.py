"""A run directory: begun, gone on with, finished; which clips trained, and the weights that came of it."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..devices import Say, changed_versions, kind_of, warn
from ..errors import FileError, RunError
from ..files import (
    file_sha256,
    foreign_names,
    make_directory,
    read_csv,
    read_file,
    remove_file,
    remove_temporaries,
    sha256,
    to_csv,
    write_file,
)
from ..locks import locked
from .config import CONFIG, HEAD, RunConfig, read_config, write_config
from .ensemble import HeadEnsemble
from .head import Head

CLIPS, METRICS, CURVES = "clips.csv", "metrics.csv", "curves.png"
BEST, LAST, MODEL = "best.ckpt", "last.ckpt", "model.safetensors"
ENCODER = "encoder.safetensors"  # of the cache; a fine-tuned run has its own encoder in MODEL
EVALUATIONS, REPORT = "evaluate", "report.html"
FOLDS, OUT_OF_FOLD = "folds", "out_of_fold.csv"  # of a run that is the mean of several heads
_ONE_FILE_EACH = (CONFIG, CLIPS, METRICS, CURVES, BEST, LAST, MODEL, ENCODER, OUT_OF_FOLD, REPORT)
_SHARED = ("stage", "split", "fingerprint", "classes", "folds", "validate_on")  # by a resumed run and its beginning
TRAINS, VALIDATES = SUBSETS = ("train", "val")
_SUBSET = re.compile(r"train|val|fold[0-9]+")
_GROUP = re.compile(r"(split|seed)([0-9]+)")


@dataclass(frozen=True)
class Run:
    """A finished run. `clips` says which subset each clip that it used was in, by key: `train`, `val`, or, of several
    heads, the fold in which it validates, as `fold_subset` names it, while it trains the others. One that trained and
    validated, which is so with `--validate-on` alone, counts as `train`.
    """

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
        return cls(path, config, read_clips(path, config))

    @property
    def model_sha256(self) -> str:
        """Of model.safetensors."""
        assert self.config.model_sha256 is not None  # of a finished run
        return self.config.model_sha256

    def load_head(self) -> Head | HeadEnsemble:
        """The head of the best epoch, or the mean of several, on the CPU, in eval mode. Raises HarCacheError where it
        does not fit.
        """
        state = self.state("head")
        try:
            with torch.device("meta"):  # sizes alone: the config may ask for more memory than there is
                self._head().load_state_dict({name: tensor.to("meta") for name, tensor in state.items()}, strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{self.path / MODEL}: does not fit the head that {CONFIG} describes: {reason}") from error
        head = self._head()
        head.load_state_dict(state, strict=True)
        return head.eval()

    def _head(self) -> Head | HeadEnsemble:
        """As the config describes it."""
        config = self.config
        heads = [Head(len(config.classes), config.head) for _ in range(config.heads or 1)]
        return HeadEnsemble(heads) if config.heads else heads[0]

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


def find_runs(path: Path) -> list[Path]:
    """The runs below `path`, of several splits, several seeds or both, in this order; or else `path` itself."""
    if (path / CONFIG).is_file():
        return [path]
    matches = [(_GROUP.fullmatch(folder.name), folder) for folder in path.glob("s*")]
    groups = sorted((match[1], int(match[2]), folder) for match, folder in matches if match)
    found = [run for *_, group in groups for run in find_runs(group)]
    return [run for run in found if (run / CONFIG).is_file()] or [path]


def split_path(path: Path, split: int) -> Path:
    """The directory in which `--split all` trains this split."""
    return path / f"split{split}"


def seed_path(path: Path, seed: int) -> Path:
    """The directory in which `--seeds` trains with this seed."""
    return path / f"seed{seed}"


def fold_path(path: Path, fold: int) -> Path:
    """The directory in which the head of a fold is trained."""
    return path / FOLDS / str(fold)


def fold_subset(fold: int) -> str:
    """The subset of a clip that validates in this fold, and trains the heads of the others."""
    return f"fold{fold}"


@contextmanager
def writing(path: Path, say: Say) -> Iterator[None]:
    """Keep other writers out of a run's directory, which is made where there is none, and remove what killed ones left
    in it. Raises RunError where one is at work there.
    """
    made = not path.exists()
    make_directory(path)
    try:
        with ExitStack() as stack:
            try:
                is_locked = stack.enter_context(locked(path, "training or evaluation", say))
            except FileError as error:
                raise RunError(str(error)) from error
            for directory in (path, *path.glob(f"{EVALUATIONS}/*"), *path.glob(f"{FOLDS}/*")):
                remove_temporaries(directory, is_locked)
            yield
    finally:
        if made:
            with suppress(OSError):  # it holds a run now
                path.rmdir()


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
        digest = write_clips(path, dict(sorted(clips.items())))
        if encoder is not None:
            write_file(path / ENCODER, encoder)
        write_config(path, replace(config, files={CLIPS: digest}))
        return True
    changed = _differences(begun, config)
    changed += [_of_clips(begun, config)] if read_clips(path, begun) != clips else []
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
    found = [name for name in _SHARED if getattr(old, name) != getattr(new, name)]
    start = [config.started_from and config.started_from.model_sha256 for config in (old, new)]
    found += ["the run it starts from"] if start[0] != start[1] else []
    before, now = ({**vars(config.head), **vars(config.training)} for config in (old, new))
    return found + [
        f"{name} {before.get(name)}, now {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _of_clips(old: RunConfig, new: RunConfig) -> str:
    """Why other clips train or validate."""
    if old.fold == new.fold:
        return "clips of the training list"
    return f"fold {'drawn by the seed' if old.fold is None else old.fold}, now {new.fold}"


def read_clips(path: Path, config: RunConfig) -> dict[str, str]:
    """The subset of each clip, by key. Raises HarCacheError."""
    file = path / CLIPS
    try:
        check_table(file, config)
        rows = read_csv(file)
    except FileError as error:
        raise RunError(f"{error}; train again with --overwrite") from error
    header, rows = rows[:1], rows[1:]
    if header != [["key", "subset"]] or any(len(row) != 2 or not _SUBSET.fullmatch(row[1]) for row in rows):
        raise RunError(f"{file}: damaged; expected rows of key,train or key,val or key,fold and its number")
    return dict(rows)


def write_clips(path: Path, clips: Mapping[str, str]) -> str:
    """Commit clips.csv; gives its sha256."""
    data = to_csv(("key", "subset"), clips.items())
    write_file(path / CLIPS, data)
    return sha256(data)


def check_table(file: Path, config: RunConfig) -> None:
    """Raise FileError where a table of the run is not the one that its config knows, if it knows one."""
    expected = config.files.get(file.name)
    if expected and file_sha256(file) != expected:
        raise FileError(f"{file}: damaged or edited (its sha256 is not that of {CONFIG})")


def save_model(model: nn.Module, path: Path) -> str:
    """Commit model.safetensors; gives its sha256."""
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_file(path / MODEL, data)
    return sha256(data)


def clear(path: Path) -> None:
    """Remove the run in this directory, config first; what is not a run's stays. Raises FileError."""
    for name in _ONE_FILE_EACH:
        remove_file(path / name)
    for name in (EVALUATIONS, FOLDS):  # figures of a run that is no more, and its heads
        shutil.rmtree(path / name, ignore_errors=True)


def _create(path: Path) -> None:
    """Make the directory. Raises HarCacheError where it holds other things than a run."""
    make_directory(path)
    foreign = foreign_names(path, (*_ONE_FILE_EACH, EVALUATIONS, FOLDS))
    if foreign and not (path / CONFIG).exists():
        raise RunError(f"{path}: holds other files ({min(foreign)}, ...); choose an empty directory")
