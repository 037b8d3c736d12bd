"""A run directory, read: what it is called, which clips trained, and the weights that came of it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..data.keys import sources_of
from ..errors import FileError, RunError
from ..storage.data_frames import data_frame
from ..storage.files import file_sha256, read_csv, read_file, sha256
from .config import CONFIG, HEAD, RunConfig, read_config
from .ensemble import HeadEnsemble
from .head import Head

if TYPE_CHECKING:
    import pandas

CLIPS, METRICS, CURVES = "clips.csv", "metrics.csv", "curves.png"
BEST, LAST, MODEL = "best.ckpt", "last.ckpt", "model.safetensors"
ENCODER = "encoder.safetensors"  # of the cache; a fine-tuned run has its own encoder in MODEL
EVALUATIONS, REPORT = "evaluate", "report.html"
TENSORBOARD = "tensorboard"  # a directory of curves, where they were asked for
FOLDS, OUT_OF_FOLD = "folds", "out_of_fold.csv"  # of a run that is the mean of several heads
CLIPS_HEADER = ("key", "subset", "source")  # the last only where names do not tell it
TRAINS, VALIDATES = SUBSETS = ("train", "val")
_SUBSET = re.compile(r"train|val|fold[0-9]+")
_GROUP = re.compile(r"(split|seed)([0-9]+)")


@dataclass(frozen=True)
class Run:
    """A finished run; it stands for its directory where a path is asked for. `clips` says which subset each clip that
    it used was in, by key: `train`, `val`, or, of several heads, the fold in which it validates, as `fold_subset` names
    it, while it trains the others. One that trained and validated, which is so with `--validate-on` alone, counts as
    `train`. `given_sources`: of each clip, by key, where names do not tell them.
    """

    path: Path
    config: RunConfig
    clips: dict[str, str]
    given_sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Run":
        """The finished run in this directory.

            run = har_cache.Run.open("data/runs/sample")

        Raises HarCacheError if it is none, unfinished or damaged.
        """
        path = Path(path)
        config = read_config(path)
        if config is None:
            kind = "is no run" if path.is_dir() else "no such directory"
            raise RunError(f"{path}: {kind}; make one with `har-cache train-head --run {path}`")
        if not config.finished:
            raise RunError(f"{path}: training is not finished; go on with `har-cache train-head --resume`")
        rows = _clip_rows(path, config)
        return cls(path, config, _subsets(rows), _given_sources(rows))

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        config = self.config
        if config.out_of_fold:
            outcome = f"mean of {config.heads} heads, out of fold {config.out_of_fold.accuracy:.1%}"
        else:
            outcome = f"best epoch {config.best.epoch} of {config.training.epochs}" if config.best else "unfinished"
            outcome += f", validation accuracy {config.best.val_accuracy:.1%}" if config.best else ""
        return f"Run({str(self.path)!r}: {config.stage}, split {config.split}; {outcome})"

    def to_dict(self) -> dict[str, Any]:
        """The path and the content of config.json, as JSON types."""
        return {"path": str(self.path), **self.config.to_dict()}

    def to_pandas(self) -> "pandas.DataFrame":
        """A row an epoch, as in metrics.csv. Raises HarCacheError without pandas, or where that cannot be read."""
        header, *rows = read_csv(self.path / METRICS)
        columns = list(zip(*rows, strict=True))
        return data_frame({name: [float(value) for value in columns[i]] for i, name in enumerate(header)})

    @cached_property
    def sources(self) -> dict[str, str]:
        """The source of each clip that it used, by key."""
        return sources_of(self.clips, self.given_sources)

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
        with torch.device("meta"):  # sizes alone: the config may ask for more memory than there is
            expected = {name: tuple(tensor.shape) for name, tensor in self._head().state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if wrong := sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name)):
            there, wanted = (sizes.get(wrong[0], "missing") for sizes in (found, expected))
            what = f"{wrong[0]} is {there} in the one, {wanted} in the other"
            raise RunError(f"{self.path / MODEL}: does not fit the head that {CONFIG} describes: {what}")
        head = self._head()
        head.load_state_dict(state, strict=True)
        return head.eval()

    def _head(self) -> Head | HeadEnsemble:
        """As the config describes it."""
        config = self.config
        heads = [Head(len(config.classes), config.head, dim=config.recipe.dim) for _ in range(config.heads or 1)]
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


def read_clips(path: Path, config: RunConfig) -> dict[str, str]:
    """The subset of each clip, by key. Raises HarCacheError."""
    return _subsets(_clip_rows(path, config))


def read_sources(path: Path, config: RunConfig) -> dict[str, str]:
    """The source of each clip, by key. Raises HarCacheError."""
    rows = _clip_rows(path, config)
    return sources_of(_subsets(rows), _given_sources(rows))


def _subsets(rows: list[list[str]]) -> dict[str, str]:
    return {key: subset for key, subset, *_ in rows}


def _given_sources(rows: list[list[str]]) -> dict[str, str]:
    return {key: given[0] for key, _, *given in rows if given}


def _clip_rows(path: Path, config: RunConfig) -> list[list[str]]:
    """key, subset and, where names do not tell it of all clips, source."""
    file = path / CLIPS
    try:
        check_table(file, config)
        header, *rows = read_csv(file) or [[]]
    except FileError as error:
        raise RunError(f"{error}; train again with --overwrite") from error
    known = tuple(header) in (CLIPS_HEADER, CLIPS_HEADER[:2])
    if not known or any(len(row) != len(header) or not _SUBSET.fullmatch(row[1]) for row in rows):
        raise RunError(f"{file}: damaged; expected rows of key,train or key,val or key,fold and its number")
    return rows


def check_table(file: Path, config: RunConfig) -> None:
    """Raise FileError where a table of the run is not the one that its config knows, if it knows one."""
    expected = config.files.get(file.name)
    if expected and file_sha256(file) != expected:
        raise FileError(f"{file}: damaged or edited (its sha256 is not that of {CONFIG})")
