"""A run directory: what was trained, on what, and the weights that came of it."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from ..errors import RunError
from ..files import make_directory, read_file, sha256, write_file
from ..settings import SPLITS, HeadSettings
from .head import Head

SCHEMA = "har-run/1"
CONFIG, CLIPS, METRICS, CURVES = "config.json", "clips.csv", "metrics.csv", "curves.png"
BEST, LAST, MODEL = "best.ckpt", "last.ckpt", "model.safetensors"
ENCODER = "encoder.safetensors"  # of the cache; a fine-tuned run has its own encoder in MODEL
_ONE_FILE_EACH = (CONFIG, CLIPS, METRICS, CURVES, BEST, LAST, MODEL, ENCODER, "report.html")
HEAD, FINETUNED = "head", "finetune"  # stages
_FIELDS = {
    "stage": str,
    "split": int,
    "cache": str,
    "fingerprint": str,
    "classes": list,
    "head": dict,
    "training": dict,
}
SUBSETS = ("train", "val")


@dataclass(frozen=True)
class Run:
    """A finished run.

    `config` is the content of config.json: schema, stage, split, cache, fingerprint, recipe, classes, head, training,
    projection_fit, versions, best (epoch, val_loss, val_accuracy), model_sha256. `clips` says which subset each
    clip of the training list was in, `train` or `val`, by key.
    """

    path: Path
    config: dict[str, Any]
    clips: dict[str, str]

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The finished run in this directory. Raises HarCacheError if it is none, unfinished or damaged."""
        config = read_config(path)
        if config is None:
            kind = "is no run" if path.is_dir() else "no such directory"
            raise RunError(f"{path}: {kind}; make one with `har-cache train-head --run {path}`")
        if not is_finished(config):
            raise RunError(f"{path}: training is not finished; go on with `har-cache train-head --resume`")
        return cls(path, config, read_clips(path))

    def load_head(self) -> Head:
        """The head of the best epoch, on the CPU, in eval mode. Raises HarCacheError where it does not fit."""
        head = Head(len(self.config["classes"]), self._head_settings())
        try:
            head.load_state_dict(self.state("head"), strict=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{self.path / MODEL}: does not fit the head that {CONFIG} describes: {reason}") from error
        return head.eval()

    def state(self, part: str) -> dict[str, Tensor]:
        """The tensors of `head` or, in a fine-tuned run, `encoder`, by their names in it. Raises HarCacheError."""
        tensors = read_model(self.path, self.config["model_sha256"])
        if self.config["stage"] == HEAD:
            return tensors if part == "head" else {}
        prefix = f"{part}."
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    def _head_settings(self) -> HeadSettings:
        try:
            return HeadSettings(**self.config["head"])
        except TypeError as error:
            raise RunError(f"{self.path / CONFIG}: its head is not one of this version: {error}") from error


def split_runs(path: Path) -> dict[int, Path]:
    """The run of each split below `path`: those of `--split all`, or the one that `path` itself is."""
    found = {split: split_path(path, split) for split in SPLITS if (split_path(path, split) / CONFIG).is_file()}
    return found or {Run.open(path).config["split"]: path}


def split_path(path: Path, split: int) -> Path:
    """Where `--split all` trains this split."""
    return path / f"split{split}"


def is_finished(config: Mapping[str, Any]) -> bool:
    """Whether the run came to its end: only then is its best epoch written down."""
    return "best" in config


def read_config(path: Path) -> dict[str, Any] | None:
    """The config of the run in this directory, finished or not; None where there is none."""
    file = path / CONFIG
    if not file.exists():
        return None
    try:
        config = json.loads(read_file(file))
    except ValueError as error:
        raise RunError(f"{file}: damaged (no JSON); train again with --overwrite") from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        raise RunError(f"{file}: is no {SCHEMA} config; choose another --run directory")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(config.get(name), kind)]
    if is_finished(config) and not isinstance(config.get("model_sha256"), str):
        wrong.append("model_sha256")
    if wrong:
        raise RunError(f"{file}: damaged ({', '.join(wrong)} missing or wrong); train again with --overwrite")
    return config


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Commit config.json."""
    write_file(path / CONFIG, (json.dumps(config, indent=1, allow_nan=False) + "\n").encode())


def read_clips(path: Path) -> dict[str, str]:
    """The subset of each clip, by key."""
    file = path / CLIPS
    rows = list(csv.reader(io.StringIO(_text(file), newline="")))
    if not rows or rows[0] != ["key", "subset"] or any(len(row) != 2 or row[1] not in SUBSETS for row in rows[1:]):
        raise RunError(f"{file}: damaged; expected rows of key,train or key,val")
    return dict(rows[1:])


def write_clips(path: Path, clips: Mapping[str, str]) -> None:
    """Commit clips.csv."""
    write_file(path / CLIPS, to_csv(("key", "subset"), clips.items()))


def to_csv(header: tuple[str, ...], rows: Any) -> bytes:
    """A CSV file's bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def save_model(model: nn.Module, path: Path) -> str:
    """Commit model.safetensors; gives its sha256."""
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_file(path / MODEL, data)
    return sha256(data)


def read_model(path: Path, expected_sha256: str) -> dict[str, Tensor]:
    """The tensors of model.safetensors. Raises HarCacheError where it is damaged."""
    file = path / MODEL
    data = read_file(file)
    if sha256(data) != expected_sha256:
        raise RunError(f"{file}: damaged or replaced (its sha256 is not that of {CONFIG}); train again")
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise RunError(f"{file}: is no safetensors file; train again") from error


def clear(path: Path) -> None:
    """Remove the run in this directory, config first; what is not a run's stays."""
    for name in _ONE_FILE_EACH:
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / "evaluate", ignore_errors=True)  # figures of a run that is no more


def create(path: Path) -> None:
    """Make the directory. Raises HarCacheError where it holds other things than a run."""
    make_directory(path)
    foreign = {p.name for p in path.iterdir() if not p.name.startswith(".")} - {*_ONE_FILE_EACH, "evaluate"}
    if foreign and not (path / CONFIG).exists():
        raise RunError(f"{path}: holds other files ({min(foreign)}, ...); choose an empty directory")


def _text(file: Path) -> str:
    try:
        return read_file(file).decode()
    except UnicodeDecodeError as error:
        raise RunError(f"{file}: damaged (not UTF-8)") from error
