import csv
import io
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from har_cache.cache.reader import FeatureCache
from har_cache.errors import HarCacheError, RunError
from har_cache.model.head import Head
from har_cache.progress import Progress
from har_cache.settings.training import HeadSettings, TrainSettings
from har_cache.training import checkpoints
from har_cache.training.batches import Batch, Sequences, TrainBatches
from har_cache.training.checkpoints import COLUMNS, Row, load_checkpoint, save_checkpoint, sealed
from har_cache.training.heads import head_trainer
from har_cache.training.loop import Trainer, WarmupCosine, parameter_groups

from ..helpers.bad_files import mutated
from ..helpers.caches import action_embeddings, write_cache

SETTINGS = TrainSettings(epochs=4, frames=6, batch_size=8)
ONE = TrainSettings(epochs=1, frames=4, batch_size=16)
# With the labels of `Misled` the best epoch is one in the middle.
MISLED = TrainSettings(epochs=7, frames=6, batch_size=8, lr=5e-3, ema=0.6)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    path = tmp_path_factory.mktemp("cache")
    write_cache(path, action_embeddings(lengths=(4, 12)))
    return Sequences.from_cache(FeatureCache(path), "cpu")


class Stop(Progress):
    """Does something once a number of epochs is done, and a step of the next. Keeps the notes of the epochs."""

    def __init__(self, after: int, what: Callable[[], object]) -> None:
        self.left, self.what, self.notes, self.counted = after, what, list[str](), (0, 0)

    def begin(self, what: str, unit: str, total: int | None, done: int = 0) -> None:
        self.counted = done, total or 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.counted = self.counted[0] + count, self.counted[1]
        if note:
            self.left -= 1
            self.notes.append(note)
        elif self.left == 0:
            self.what()


class Misled(TrainBatches):
    """From the fifth epoch on the labels are wrong, so that the validation loss rises."""

    def __iter__(self) -> Iterator[Batch]:
        wrong = self.epoch >= 4
        return (batch._replace(labels=(batch.labels + wrong) % 4) for batch in super().__iter__())


def batches_of(sequences: Sequences, settings: TrainSettings) -> tuple[TrainBatches, list[Batch]]:
    """Every third clip validates."""
    clips = np.arange(len(sequences.labels))
    kind = Misled if settings is MISLED else TrainBatches
    train = kind(sequences, clips[clips % 3 > 0], settings.frames, settings.batch_size, settings.seed)
    return train, sequences.eval_batches(clips[clips % 3 == 0], settings.frames, batch_size=7)


def trainer_of(settings: TrainSettings, steps: int, keep_last: bool = False) -> Trainer:
    torch.manual_seed(settings.seed)
    trainer = head_trainer(Head(4, HeadSettings(hidden=8, width=8)), settings, steps)
    trainer._keep_last = keep_last
    return trainer


def optimizer_of(trainer: Trainer) -> torch.optim.AdamW:
    (optimizer,) = [part for part in vars(trainer).values() if isinstance(part, torch.optim.AdamW)]
    return optimizer


def train(
    sequences: Sequences,
    path: Path,
    listener: Progress | None = None,
    settings: TrainSettings = SETTINGS,
    resume: bool = False,
) -> tuple[Row, nn.Module]:
    path.mkdir(exist_ok=True)
    batches, held_out = batches_of(sequences, settings)
    trainer = trainer_of(settings, len(batches))
    return trainer.fit(batches, held_out, path, listener or Progress(), resume), trainer.model


def figures(path: Path) -> list[list[str]]:
    """metrics.csv without its seconds."""
    rows = list(csv.reader((path / "metrics.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    return [row[:-1] for row in rows[1:]]


def without_seconds(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "seconds"}


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return same(a.state_dict(), b.state_dict())


def test_the_same_seed_gives_the_same_metrics_and_weights(sequences: Sequences, tmp_path: Path) -> None:
    _, a = train(sequences, tmp_path / "a")
    torch.rand(5)
    _, b = train(sequences, tmp_path / "b")
    assert figures(tmp_path / "a") == figures(tmp_path / "b") and same_weights(a, b)
    assert [row[0] for row in figures(tmp_path / "a")] == ["1", "2", "3", "4"]
    train(sequences, tmp_path / "c", settings=replace(SETTINGS, seed=1))
    assert figures(tmp_path / "c") != figures(tmp_path / "a")


def test_nothing_but_what_is_documented_is_written(
    sequences: Sequences, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(sequences, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"metrics.csv", "best.ckpt", "last.ckpt"}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert capfd.readouterr() == ("", "")


def test_steps_are_counted_and_epochs_told(sequences: Sequences, tmp_path: Path) -> None:
    listener = Stop(-1, lambda: None)
    train(sequences, tmp_path / "run", listener)
    assert listener.counted == (16, 16)
    [row, *_] = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    losses = f"loss {float(row['train_loss']):.3f}, validation loss {float(row['val_loss']):.3f}"
    assert listener.notes[0] == f"epoch 1 of 4: {losses}, accuracy {float(row['val_accuracy']):.1%} (best so far)"
    assert len(listener.notes) == 4


# ------------------------------------------------------------------------------------- interruptions, and going on


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
    listener = Stop(-1, lambda: None)
    again, resumed = train(sequences, tmp_path / "cut", listener, resume=True)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    assert without_seconds(again) == without_seconds(best)
    assert same_weights(whole, resumed)
    assert len(listener.notes) == 4 - epochs and listener.counted == (16, 16)


@pytest.mark.parametrize("write", [0, 1, 2, 3, 4, 16, 17])
def test_an_end_between_any_two_files_loses_at_most_an_epoch(
    sequences: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """The first write is that of an empty metrics.csv; then three, or two, an epoch."""
    best, whole = train(sequences, tmp_path / "whole", settings=MISLED)
    left, write_file = [write], checkpoints.write_file

    def cut(path: Path, data: bytes) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_file(path, data)

    monkeypatch.setattr(checkpoints, "write_file", cut)
    with pytest.raises(KeyboardInterrupt):
        train(sequences, tmp_path / "cut", settings=MISLED)
    monkeypatch.undo()
    again, resumed = train(sequences, tmp_path / "cut", settings=MISLED, resume=True)
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    assert without_seconds(again) == without_seconds(best) and same_weights(whole, resumed)


def test_resuming_after_the_last_epoch_changes_nothing(sequences: Sequences, tmp_path: Path) -> None:
    best, model = train(sequences, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    again, resumed = train(sequences, tmp_path / "run", resume=True)
    assert again == best and same_weights(model, resumed)
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before


def test_sigterm_ends_with_its_own_exit_code_and_keeps_what_was_done(sequences: Sequences, tmp_path: Path) -> None:
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended:
            train(sequences, tmp_path / "run", Stop(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert len(load_checkpoint(tmp_path / "run" / "last.ckpt")["rows"]) == len(figures(tmp_path / "run")) == 1


# -------------------------------------------------------------------------------------------------- the best epoch


def test_the_best_epoch_s_weights_are_kept_and_not_the_last_s(sequences: Sequences, tmp_path: Path) -> None:
    listener = Stop(-1, lambda: None)
    best, model = train(sequences, tmp_path / "run", listener, MISLED)
    losses = [float(row[3]) for row in figures(tmp_path / "run")]
    assert 1 < best["epoch"] < 6 and len(losses) == 7 and best["val_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert losses.index(min(losses)) == best["epoch"] - 1
    marked = [i for i, note in enumerate(listener.notes) if note.endswith("(best so far)")]
    assert marked == [i for i, loss in enumerate(losses) if loss == min(losses[: i + 1])]
    kept = load_checkpoint(tmp_path / "run" / "best.ckpt")["state_dict"]
    last = load_checkpoint(tmp_path / "run" / "last.ckpt")["state_dict"]
    assert same(kept, dict(model.state_dict())) and not same(kept, last)
    # The weights are those that the best epoch's figures were measured with, and the last epoch's are the last's.
    _, held_out = batches_of(sequences, MISLED)
    assert own_figures(model, held_out) == pytest.approx((best["val_loss"], best["val_accuracy"]), rel=1e-5)
    model.load_state_dict(last)
    assert own_figures(model, held_out)[0] == pytest.approx(losses[-1], rel=1e-5)


def test_where_the_last_epoch_is_asked_for_it_is_kept_though_another_is_better(
    sequences: Sequences, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    batches, held_out = batches_of(sequences, MISLED)
    trainer, ear = trainer_of(MISLED, len(batches), keep_last=True), Stop(-1, lambda: None)
    kept = trainer.fit(batches, held_out, tmp_path / "run", ear, resume=False)
    losses = [row["val_loss"] for row in trainer.rows]
    assert kept is trainer.rows[-1] and min(losses) < losses[-1]
    assert same(trainer.model.state_dict(), load_checkpoint(tmp_path / "run" / "last.ckpt")["state_dict"])
    assert not any("best" in note for note in ear.notes)


def test_resuming_keeps_the_best_epoch_of_before(sequences: Sequences, tmp_path: Path) -> None:
    best, whole = train(sequences, tmp_path / "whole", settings=MISLED)
    with pytest.raises(KeyboardInterrupt):
        train(sequences, tmp_path / "cut", Stop(6, lambda: os.kill(os.getpid(), signal.SIGINT)), MISLED)
    kept = (tmp_path / "cut" / "best.ckpt").read_bytes()
    again, resumed = train(sequences, tmp_path / "cut", settings=MISLED, resume=True)
    assert without_seconds(again) == without_seconds(best) and same_weights(whole, resumed)
    assert (tmp_path / "cut" / "best.ckpt").read_bytes() == kept
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")


def own_figures(model: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Cross-entropy and accuracy, clip by clip."""
    model.eval()
    losses, right = [], []
    with torch.inference_mode():
        for inputs, mask, labels in batches:
            for clip in range(len(labels)):
                logits = model(inputs[clip : clip + 1], mask[clip : clip + 1])
                losses.append(float(F.cross_entropy(logits, labels[clip : clip + 1])))
                right.append(int(logits.argmax()) == int(labels[clip]))
    return float(np.mean(losses)), float(np.mean(right))


def test_it_learns_the_order_of_frames(sequences: Sequences, tmp_path: Path) -> None:
    best, _ = train(sequences, tmp_path / "run", settings=TrainSettings(epochs=25, frames=6, batch_size=8, lr=5e-3))
    assert best["val_accuracy"] > 0.9


# ------------------------------------------------------------------------------------------- a step, number by number


class Few:
    """Ready batches of unequal size, the same in every epoch; one of them may be empty."""

    epoch = 0

    def __init__(self, sizes: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(3)
        self.batches = [
            Batch(
                torch.randn(n, 5, generator=generator),
                torch.ones(n, 1, dtype=torch.bool),
                torch.randint(3, (n,), generator=generator),
            )
            for n in sizes
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class Linear(nn.Module):
    """Logits without any randomness."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 3)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return self.layer(inputs)


def fit_linear(settings: TrainSettings, batches: Few, run: Path, accumulate: int = 1) -> tuple[Trainer, Row]:
    run.mkdir(exist_ok=True)
    model = Linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(settings.lr))
    curve = WarmupCosine(settings.epochs * -(-len(batches) // accumulate), settings.warmup)
    trainer = Trainer(model, optimizer, [lambda step: settings.lr * curve(step)], settings, accumulate)
    return trainer, trainer.fit(batches, batches, run, Progress(), resume=False)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine_to_zero() -> None:
    curve = WarmupCosine(100, 0.2)
    assert [curve(step) for step in (0, 9, 19, 20)] == pytest.approx([0.05, 0.5, 1.0, 1.0])
    assert [curve(step) for step in (40, 60, 80, 100, 120)] == pytest.approx(
        [0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0]
    )
    assert WarmupCosine(1, 0.0)(0) == 1.0


def test_figures_are_means_over_clips_and_not_over_batches(tmp_path: Path) -> None:
    batches, model = Few((7, 1, 0, 2)), Linear()
    settings = TrainSettings(epochs=1, lr=1e-12, label_smoothing=0.3, ema=0.0)
    _, row = fit_linear(settings, batches, tmp_path)
    full = [batch for batch in batches.batches if len(batch.labels)]
    expected = own_figures(model, full)
    assert (row["val_loss"], row["val_accuracy"]) == pytest.approx(expected)
    assert (row["train_loss"], row["train_accuracy"]) == pytest.approx(expected)
    by_batch = np.mean([own_figures(model, [batch]) for batch in full], 0)
    assert (np.abs(by_batch - expected) > 0.01).all()


class Ready(nn.Module):
    """Logits that were given; its parameter teaches it nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        return inputs + 0 * self.zero


def judged(batches: list[Batch], run: Path) -> Row:
    """The row of an epoch that leaves the model as it is, validated on these batches."""
    train = Few((2,))
    train.batches = [Batch(torch.zeros(2, 2), torch.ones(2, 1, dtype=torch.bool), torch.tensor([0, 1]))]
    model = Ready()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1))
    trainer = Trainer(model, optimizer, [lambda step: 0.1], TrainSettings(epochs=1))
    return trainer.fit(train, batches, run, Progress(), resume=False)


def test_validation_is_by_the_mean_of_the_probabilities_in_all_ways(tmp_path: Path) -> None:
    """Two clips in three ways, then one. The first is right in one way of three, and by the mean."""
    ways = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.6, 0.4]], [[0.45, 0.55], [0.5, 0.5]]])
    clips = Batch(ways.log().flatten(0, 1), torch.ones(6, 1, dtype=torch.bool), torch.tensor([0, 0]))
    single = Batch(torch.tensor([[0.3, 0.7]]).log(), torch.ones(1, 1, dtype=torch.bool), torch.tensor([1]))
    row = judged([clips, single], tmp_path)
    right = [(0.9 + 0.4 + 0.45) / 3, (0.2 + 0.6 + 0.5) / 3, 0.7]
    assert row["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5) and row["val_accuracy"] == 2 / 3


def test_a_clip_that_is_surely_wrong_costs_much_and_not_all(tmp_path: Path) -> None:
    wrong = Batch(torch.tensor([[0.0, 1e4]]), torch.ones(1, 1, dtype=torch.bool), torch.tensor([0]))
    assert judged([wrong], tmp_path)["val_loss"] == pytest.approx(87.3, abs=0.1)


def test_a_window_is_divided_by_the_batches_that_it_has(tmp_path: Path) -> None:
    batches, expected = Few((4, 4, 4, 2, 4)), Linear()
    settings = TrainSettings(epochs=1, lr=0.5, warmup=1.0, ema=0.0, label_smoothing=0.1)
    trainer, _ = fit_linear(settings, batches, tmp_path, accumulate=2)
    for step, window in enumerate(([0, 1], [2, 3], [4])):
        expected.zero_grad()
        losses = [
            F.cross_entropy(expected(batch.inputs, batch.mask), batch.labels, label_smoothing=0.1)
            for batch in (batches.batches[i] for i in window)
        ]
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        with torch.no_grad():
            for parameter in expected.parameters():
                parameter -= 0.5 * (step + 1) / 3 * parameter.grad
    for ours, theirs in zip(trainer.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    batches = Few((4,))
    batches.batches[0].inputs.mul_(1e4)
    before = Linear()
    trainer, _ = fit_linear(TrainSettings(epochs=1, lr=0.5, warmup=0.0, ema=0.0), batches, tmp_path)
    pairs = zip(before.parameters(), trainer.model.parameters(), strict=True)
    assert sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5 == pytest.approx(0.5, rel=1e-3)


def test_the_average_forgets_fast_at_first(tmp_path: Path) -> None:
    """What is kept is the average, and what a step leaves of it is (1 + step) / (10 + step), at most `ema`."""
    batches = Few((4, 4, 4, 4))
    settings = TrainSettings(epochs=1, lr=0.5, warmup=0.0, ema=0.25)
    plain, _ = fit_linear(replace(settings, ema=0.0), batches, tmp_path / "plain")
    trainer, row = fit_linear(settings, batches, tmp_path / "run")
    raw = load_checkpoint(tmp_path / "run" / "last.ckpt")["model"]
    assert same(raw, dict(plain.model.state_dict()))  # the average changes nothing of the training

    expected = Linear().requires_grad_(False)
    model, seen = Linear(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, WarmupCosine(4, 0.0))
    for inputs, mask, labels in batches.batches:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs, mask), labels, label_smoothing=settings.label_smoothing).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        seen.append([parameter.detach().clone() for parameter in model.parameters()])
    for step, kept in enumerate((0.0, 2 / 11, 0.25, 0.25)):
        for average, parameter in zip(expected.parameters(), seen[step], strict=True):
            average.copy_(kept * average + (1 - kept) * parameter)
    for ours, theirs in zip(trainer.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs)
    assert row["val_loss"] == pytest.approx(own_figures(expected, batches.batches)[0])


def test_averaging_can_be_left_out(tmp_path: Path) -> None:
    trainer, _ = fit_linear(TrainSettings(epochs=1, ema=0.0), Few((4, 4)), tmp_path)
    assert trainer.averaged is trainer.model


def test_the_average_has_of_its_own_what_learns_alone() -> None:
    """What is frozen, and statistics of norms, need no averaging and no copies."""
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    trainer = head_trainer(model, TrainSettings(ema=0.9), 3)
    theirs = trainer.averaged.state_dict(keep_vars=True)
    shared = {name for name, tensor in model.state_dict(keep_vars=True).items() if tensor is theirs[name]}
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert shared == {"0.weight", "0.bias", *statistics} and theirs.keys() == model.state_dict().keys()


def test_statistics_of_norms_are_kept_as_they_are(tmp_path: Path) -> None:
    class Normed(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(5)

        def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
            return self.layer(self.norm(inputs))

    model, batches = Normed(), Few((4, 4, 4))
    trainer = head_trainer(model, TrainSettings(epochs=1, ema=0.9), 3)
    trainer.fit(batches, batches, tmp_path, Progress(), resume=False)
    raw = load_checkpoint(tmp_path / "last.ckpt")["model"]
    assert int(raw["norm.num_batches_tracked"]) == 3 and raw["norm.running_mean"].any()
    assert all(torch.equal(raw[name], value) for name, value in model.named_buffers())
    assert not torch.equal(raw["layer.weight"], model.layer.weight)


def test_random_numbers_are_those_of_the_seed_and_the_epoch(tmp_path: Path) -> None:
    class Drawing(Linear):
        def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
            if self.training:
                drawn.append(float(torch.rand(())))
            return self.layer(inputs)

    runs = []
    for seed in (0, 0, 1):
        drawn: list[float] = []
        batches = Few((4, 4))
        torch.rand(len(runs))
        head_trainer(Drawing(), TrainSettings(epochs=2, seed=seed), 2).fit(
            batches, batches, tmp_path, Progress(), False
        )
        runs.append(drawn)
    assert runs[0] == runs[1] and len({*runs[0], *runs[2]}) == 8


def test_biases_and_norms_do_not_decay() -> None:
    head = Head(3, HeadSettings())
    decayed, others = parameter_groups(head, 0.1)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert {p.ndim for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(head.parameters()))


def test_without_gradients_a_step_shrinks_weights_alone(sequences: Sequences, tmp_path: Path) -> None:
    """What `parameter_groups` says is what the optimizer does."""
    settings = replace(SETTINGS, weight_decay=0.5, lr=0.1)
    trainer = trainer_of(settings, 4)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    optimizer = optimizer_of(trainer)
    trainer._step.prepare([0.1, 0.1], 0.0)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name, parameter in before.items() if parameter.ndim > 1}


# ---------------------------------------------------------------------------------------------------------- bad input


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
        write_checkpoint(file, {"state_dict": {}, "x": bomb})
    with pytest.raises(HarCacheError, match=r"last\.ckpt: damaged" if plain else r"last\.ckpt: refused"):
        train(sequences, tmp_path / "run", resume=True)
    assert not (tmp_path / "exploded").exists()


def write_checkpoint(path: Path, content: object) -> None:
    """With the right seal."""
    data = io.BytesIO()
    torch.save(content, data)
    path.write_bytes(sealed(data.getvalue()))


def test_a_checkpoint_that_torch_reads_shows_any_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"state_dict": {"weight": torch.arange(4.0)}})
    assert torch.load(path, weights_only=True)["state_dict"]["weight"].tolist() == [0, 1, 2, 3]
    data = path.read_bytes()
    for i in range(0, len(data), 7):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :])
        with pytest.raises(RunError, match=r"last\.ckpt: damaged.*--overwrite"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_refused(sequences: Sequences, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_bytes(content)
    with pytest.raises(HarCacheError, match=r"last\.ckpt"):
        train(sequences, tmp_path / "run", resume=True)


@pytest.mark.parametrize("kept", [{"step": "x"}, {"step": torch.ones(()), "exp_avg": torch.zeros(3)}])
def test_a_checkpoint_whose_moments_are_of_something_else_is_refused(
    sequences: Sequences, trained: Path, kept: dict[str, object]
) -> None:
    before = (trained / "last.ckpt").read_bytes()
    state = load_checkpoint(trained / "last.ckpt")
    state["optimizer"]["state"][0] = kept
    save_checkpoint(trained / "last.ckpt", state)
    with pytest.raises(RunError, match=r"last\.ckpt: does not fit.*--overwrite"):
        train(sequences, trained, settings=ONE, resume=True)
    (trained / "last.ckpt").write_bytes(before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.zeros(2)}, "is no checkpoint"),
        ([torch.zeros(2)], "is no checkpoint"),
        ({"pytorch-lightning_version": "2.6.6", "state_dict": {}, "epoch": 2}, "another version.*--overwrite"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    sequences: Sequences, tmp_path: Path, content: object, message: str
) -> None:
    (tmp_path / "run").mkdir()
    write_checkpoint(tmp_path / "run" / "last.ckpt", content)
    with pytest.raises(HarCacheError, match=message):
        train(sequences, tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_model_is_refused(sequences: Sequences, tmp_path: Path) -> None:
    fit_linear(TrainSettings(epochs=1), Few((4,)), tmp_path / "run")
    with pytest.raises(HarCacheError, match=r"last\.ckpt: does not fit.*--overwrite"):
        train(sequences, tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_ends_the_training(sequences: Sequences, tmp_path: Path) -> None:
    with pytest.raises(HarCacheError, match=r"not finite.*--lr"):
        train(sequences, tmp_path / "run", settings=TrainSettings(epochs=3, frames=6, batch_size=8, lr=1e30))
    assert not (tmp_path / "run" / "last.ckpt").exists()


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


@pytest.fixture(scope="module")
def trained(sequences: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(sequences, path, settings=ONE)
    return path


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
@given(data=st.data())
@hypothesis.settings(max_examples=int(os.environ.get("HAR_CACHE_BAD_FILES", 8)))
def test_a_checkpoint_that_was_edited_and_sealed_anew_is_gone_on_with_or_refused(
    sequences: Sequences, trained: Path, name: str, data: st.DataObject
) -> None:
    before = (trained / name).read_bytes()
    state = load_checkpoint(trained / name)
    try:
        save_checkpoint(trained / name, data.draw(mutated(state)))
        train(sequences, trained, settings=ONE, resume=True)
    except HarCacheError as error:
        assert name in str(error) or "metrics.csv" in str(error)
    finally:
        (trained / name).write_bytes(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": []},
        {"rows": 7},
        {"rows": [{}]},
        {"rows": [dict.fromkeys(COLUMNS, float("nan"))]},
        {"rows": [dict.fromkeys(COLUMNS, 1.0)] * 2},  # more than are trained
        {"steps": "x"},
        {"steps": -1},
        {"steps": 1 << 70},
        {"optimizer": []},
    ],
)
def test_a_checkpoint_without_its_epochs_or_steps_is_refused(
    sequences: Sequences, trained: Path, changes: dict[str, object]
) -> None:
    before = (trained / "last.ckpt").read_bytes()
    save_checkpoint(trained / "last.ckpt", {**load_checkpoint(trained / "last.ckpt"), **changes})
    with pytest.raises(RunError, match=r"last\.ckpt: does not fit.*--overwrite"):
        train(sequences, trained, settings=ONE, resume=True)
    (trained / "last.ckpt").write_bytes(before)
