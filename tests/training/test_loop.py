import csv
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.cache.reader import FeatureCache
from har_cache.errors import HarCacheError
from har_cache.model.head import Head
from har_cache.progress import Progress as Silence
from har_cache.settings import HeadSettings, TrainSettings
from har_cache.training.batches import EvalBatches, Sequences, TrainBatches
from har_cache.training.journal import COLUMNS, Row, load_checkpoint
from har_cache.training.loop import Classifier, fit, parameter_groups

from ..helpers.caches import action_embeddings, write_cache

SETTINGS = TrainSettings(epochs=4, frames=6, batch_size=8)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    path = tmp_path_factory.mktemp("cache")
    write_cache(path, action_embeddings(lengths=(4, 12)))
    return Sequences.from_cache(FeatureCache(path), "cpu")


class Stop(Silence):
    """Does something once a number of epochs is done, and a step of the next."""

    def __init__(self, after: int, what: Callable[[], object]) -> None:
        self.left, self.what, self.told = after, what, []

    def step(self) -> None:
        if self.left == 0:
            self.what()

    def epoch(self, row: Row, best: bool) -> None:
        self.left -= 1
        self.told.append((row, best))


def train(
    sequences: Sequences,
    path: Path,
    listener: Silence | None = None,
    settings: TrainSettings = SETTINGS,
    resume: bool = False,
) -> tuple[Row, Classifier]:
    """Every third clip validates."""
    path.mkdir(exist_ok=True)
    clips = np.arange(len(sequences.labels))
    batches = TrainBatches(sequences, clips[clips % 3 > 0], settings.frames, settings.batch_size, settings.seed)
    torch.manual_seed(settings.seed)
    module = Classifier(Head(4, HeadSettings(hidden=8, width=8)), settings, len(batches))
    held_out = EvalBatches(sequences, clips[clips % 3 == 0], settings.frames)
    return fit(module, batches, held_out, path, "cpu", listener or Silence(), resume), module


def figures(path: Path) -> list[list[str]]:
    """metrics.csv without its seconds."""
    rows = list(csv.reader((path / "metrics.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    return [row[:-1] for row in rows[1:]]


def same_weights(a: Classifier, b: Classifier) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_the_same_seed_gives_the_same_metrics_and_weights(sequences: Sequences, tmp_path: Path) -> None:
    _, a = train(sequences, tmp_path / "a")
    torch.rand(5)
    _, b = train(sequences, tmp_path / "b")
    assert figures(tmp_path / "a") == figures(tmp_path / "b") and same_weights(a, b)
    assert [row[0] for row in figures(tmp_path / "a")] == ["1", "2", "3", "4"]
    other = TrainSettings(epochs=4, frames=6, batch_size=8, seed=1)
    train(sequences, tmp_path / "c", settings=other)
    assert figures(tmp_path / "c") != figures(tmp_path / "a")


def test_nothing_but_what_is_documented_is_written(
    sequences: Sequences, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(sequences, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"metrics.csv", "best.ckpt", "last.ckpt"}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_ctrl_c_keeps_what_was_done_and_resuming_ends_as_if_it_had_not_been(
    sequences: Sequences, tmp_path: Path, epochs: int
) -> None:
    best, whole = train(sequences, tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(sequences, tmp_path / "cut", Stop(epochs, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "cut" / "best.ckpt").exists() is (epochs > 0)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")[:epochs]
    again, resumed = train(sequences, tmp_path / "cut", resume=True)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in best.items() if k != "seconds"}
    assert same_weights(whole, resumed)


def test_resuming_after_the_last_epoch_changes_nothing(sequences: Sequences, tmp_path: Path) -> None:
    best, module = train(sequences, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    again, resumed = train(sequences, tmp_path / "run", resume=True)
    assert again == best and same_weights(module, resumed)
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before


def test_sigterm_ends_with_its_own_exit_code(sequences: Sequences, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        train(sequences, tmp_path / "run", Stop(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert ended.value.code == 143


def test_the_best_epoch_has_the_lowest_validation_loss(sequences: Sequences, tmp_path: Path) -> None:
    listener = Stop(-1, lambda: None)
    best, module = train(sequences, tmp_path / "run", listener)
    rows = [row for row, _ in listener.told]
    assert best == min(rows, key=lambda row: row["val_loss"])
    marked = [row for row, is_best in listener.told if is_best]
    assert marked[0] == rows[0] and marked[-1] == best
    state = load_checkpoint(tmp_path / "run" / "best.ckpt")["state_dict"]
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_it_learns_the_order_of_frames(sequences: Sequences, tmp_path: Path) -> None:
    best, _ = train(sequences, tmp_path / "run", settings=TrainSettings(epochs=25, frames=6, batch_size=8, lr=5e-3))
    assert best["val_accuracy"] > 0.9


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("plain", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(sequences: Sequences, tmp_path: Path, plain: bool) -> None:
    (tmp_path / "run").mkdir()
    bomb, file = Bomb(tmp_path / "exploded"), tmp_path / "run" / "last.ckpt"
    if plain:
        file.write_bytes(pickle.dumps({"state_dict": {}, "x": bomb}, protocol=2))
    else:
        torch.save({"state_dict": {}, "x": bomb}, file)
    with pytest.raises(HarCacheError, match=r"last\.ckpt: refused"):
        train(sequences, tmp_path / "run", resume=True)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused(sequences: Sequences, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_bytes(content)
    with pytest.raises(HarCacheError, match=r"last\.ckpt"):
        train(sequences, tmp_path / "run", resume=True)


def test_a_checkpoint_of_something_else_is_refused(sequences: Sequences, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torch.save({"weights": torch.zeros(2)}, tmp_path / "run" / "last.ckpt")
    with pytest.raises(HarCacheError, match="is no checkpoint"):
        train(sequences, tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_ends_the_training(sequences: Sequences, tmp_path: Path) -> None:
    with pytest.raises(HarCacheError, match=r"not finite.*--lr"):
        train(sequences, tmp_path / "run", settings=TrainSettings(epochs=3, frames=6, batch_size=8, lr=1e30))


def test_biases_and_norms_do_not_decay() -> None:
    head = Head(3, HeadSettings())
    decayed, others = parameter_groups(head, 0.1)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert {p.ndim for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(head.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TrainSettings(frames=0), "--frames 0: expected at least 1"),
        (TrainSettings(epochs=0), "--epochs 0"),
        (TrainSettings(batch_size=-1), "--batch-size -1"),
        (TrainSettings(lr=-1e-3), "--lr -0.001: expected a number above 0"),
        (TrainSettings(lr=float("nan")), "--lr nan"),
        (TrainSettings(seed=-1), "--seed -1"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: TrainSettings, message: str) -> None:
    with pytest.raises(HarCacheError, match=message):
        settings.check()
