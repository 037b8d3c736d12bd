"""Steps that are recorded once and replayed give what steps that are made one by one give, to the last bit."""

import copy
import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from har_cache.cache.reader import FeatureCache
from har_cache.model.head import Head
from har_cache.progress import Progress
from har_cache.settings.training import HeadSettings, TrainSettings
from har_cache.training.batches import Sequences, TrainBatches
from har_cache.training.loop import Trainer, WarmupCosine, parameter_groups
from har_cache.training.step import GraphedStep, Recorder, Step, adamw, record_cuda_graph

from ..helpers.caches import action_embeddings, write_cache
from ..helpers.tapes import taped

# 32 clips: four batches of 7, and one of 4.
SETTINGS = TrainSettings(epochs=3, frames=6, batch_size=7, lr=5e-3, ema=0.6)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    path = tmp_path_factory.mktemp("cache")
    write_cache(path, action_embeddings(lengths=(4, 12)))
    return Sequences.from_cache(FeatureCache(path))


class Ear(Progress):
    """Keeps what is said; interrupts once `epochs` are done."""

    def __init__(self, epochs: int = 0) -> None:
        self.said: list[str] = []
        self._epochs = epochs

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, count: int = 1, note: str = "") -> None:
        if note.startswith(f"epoch {self._epochs} of"):
            raise KeyboardInterrupt


class Counted:
    """A recorder, and how often what it recorded was replayed."""

    def __init__(self, recorder: Recorder = taped) -> None:
        self.recorded, self.replayed, self._recorder = 0, 0, recorder

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        replay = self._recorder(work)

        def counted() -> None:
            self.replayed += 1
            replay()

        return counted


def train(
    sequences: Sequences,
    run: Path,
    record: Recorder | None,
    settings: TrainSettings = SETTINGS,
    listener: Progress | None = None,
    resume: bool = False,
    accumulate: int = 1,
    cell: str = "gru",
) -> nn.Module:
    run.mkdir(exist_ok=True)
    clips = np.arange(len(sequences.labels))
    batches = TrainBatches(sequences, clips[clips % 3 > 0], settings.frames, settings.batch_size, settings.seed)
    held_out = sequences.eval_batches(clips[clips % 3 == 0], settings.frames)
    torch.manual_seed(settings.seed)
    head = Head(4, HeadSettings(cell=cell, hidden=8, width=8))
    optimizer = adamw(parameter_groups(head, settings.weight_decay), settings.lr)
    curve = WarmupCosine(settings.epochs * -(-len(batches) // accumulate), settings.warmup)

    def rate(step: int) -> float:
        return settings.lr * curve(step)

    trainer = Trainer(head, optimizer, [rate, rate], settings, accumulate, record=record)
    trainer.fit(batches, held_out, run, listener or Progress(), resume)
    return head


def figures(run: Path) -> list[list[str]]:
    """metrics.csv without its seconds."""
    return [row[:-1] for row in csv.reader((run / "metrics.csv").open())]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("changes", [{}, {"ema": 0.0}, {"batch_size": 40}, {"batch_size": 8, "epochs": 2}])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_replayed_steps_are_the_steps_made_one_by_one(
    sequences: Sequences, tmp_path: Path, changes: dict[str, float], cell: str
) -> None:
    settings, recorder, ear = replace(SETTINGS, **changes), Counted(), Ear()  # type: ignore[arg-type]
    eager = train(sequences, tmp_path / "eager", None, settings, cell=cell)
    graphed = train(sequences, tmp_path / "graphed", recorder, settings, ear, cell=cell)
    assert figures(tmp_path / "graphed") == figures(tmp_path / "eager") and same_weights(graphed, eager)
    whole = 32 // settings.batch_size or 1  # batches of an epoch that are as large as the first
    assert (recorder.recorded, recorder.replayed) == (1, settings.epochs * whole)
    assert not ear.said


@pytest.mark.parametrize(("first", "then"), [(taped, taped), (None, taped), (taped, None)])
def test_interrupted_it_ends_as_if_it_had_not_been(
    sequences: Sequences, tmp_path: Path, first: Recorder | None, then: Recorder | None
) -> None:
    """The checkpoint of a run on one device may be gone on with on another."""
    eager = train(sequences, tmp_path / "eager", None)
    with pytest.raises(KeyboardInterrupt):
        train(sequences, tmp_path / "cut", first, listener=Ear(epochs=1))
    resumed = train(sequences, tmp_path / "cut", then, resume=True)
    assert figures(tmp_path / "cut") == figures(tmp_path / "eager") and same_weights(resumed, eager)


def test_windows_of_several_batches_are_made_one_by_one(sequences: Sequences, tmp_path: Path) -> None:
    recorder = Counted()
    eager = train(sequences, tmp_path / "eager", None, accumulate=2)
    graphed = train(sequences, tmp_path / "graphed", recorder, accumulate=2)
    assert figures(tmp_path / "graphed") == figures(tmp_path / "eager") and same_weights(graphed, eager)


@pytest.mark.parametrize("steps", [0, 2])
def test_where_recording_fails_it_is_said_once_and_nothing_is_changed(
    sequences: Sequences, tmp_path: Path, steps: int
) -> None:
    def record(work: Callable[[], None]) -> Callable[[], None]:
        for _ in range(steps):
            work()
        raise RuntimeError("operation not permitted\nmore of it")

    ear, recorder = Ear(), Counted(record)
    eager = train(sequences, tmp_path / "eager", None)
    other = train(sequences, tmp_path / "other", recorder, listener=ear)
    assert figures(tmp_path / "other") == figures(tmp_path / "eager") and same_weights(other, eager)
    assert recorder.recorded == 1
    assert ear.said == ["Steps are not recorded as a CUDA graph, and take longer: operation not permitted"]


class Normed(nn.Module):
    """Logits of the mean of a clip's frames, with a norm that keeps statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm1d(256), nn.Linear(256, 4)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(self.norm(inputs.float().mean(1)))


def test_a_recording_leaves_no_trace_wherever_it_breaks_off(sequences: Sequences) -> None:
    batch, model = sequences.eval_batch(torch.arange(5), 3), Normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = Step(model, copy.deepcopy(model), adamw([{"params": [*model.parameters()]}], 1e-2), 0.1)

    def record(work: Callable[[], None]) -> Callable[[], None]:
        work()
        assert any(not torch.equal(value, before[name]) for name, value in model.named_buffers())
        step(batch, last=False)  # has gradients, and has not used them
        raise RuntimeError

    GraphedStep(step, record, lambda text: None)._prepare(batch)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class FakeCuda:
    """Streams and graphs that write down what is asked of them. `fails`: the call of the work that does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int = 0) -> None:
        self.log: list[str] = []
        self._calls, self._fails = 0, fails
        graph = SimpleNamespace(replay=lambda: self.log.append("replay"))
        for name, fake in {
            "CUDAGraph": lambda: graph,
            "current_stream": lambda device: self._stream("here"),
            "Stream": lambda device: self._stream("side"),
            "stream": lambda stream: self._within(stream.name),
            "graph": lambda graph, stream: self._within(f"capture on {stream.name}"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def work(self) -> None:
        self._calls += 1
        self.log.append("work")
        if self._calls == self._fails:
            raise RuntimeError

    def _stream(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.log.append(f"{name} waits for {other.name}"))

    @contextmanager
    def _within(self, what: str) -> Iterator[None]:
        self.log.append(what)
        yield
        self.log.append(f"end of {what}")


def test_warm_ups_and_capture_are_on_a_side_that_waits_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    replay = record_cuda_graph(torch.device("cuda:1"))(cuda.work)
    warm = ["side waits for here", "side", "work", "work", "work"]
    capture = ["capture on side", "work", "end of capture on side", "end of side"]
    assert cuda.log == [*warm, *capture, "here waits for side"]
    replay()
    assert cuda.log[-1] == "replay"


@pytest.mark.parametrize("fails", [1, 4])
def test_a_side_that_fails_is_waited_for(monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    cuda = FakeCuda(monkeypatch, fails)
    with pytest.raises(RuntimeError):
        record_cuda_graph(torch.device("cuda"))(cuda.work)
    assert cuda.log[-1] == "here waits for side"


def test_what_would_wait_for_the_device_cannot_be_recorded() -> None:
    """Else the tests above would say nothing of a GPU."""
    for wait in (torch.Tensor.item, torch.nonzero, bool, float):
        with pytest.raises(RuntimeError, match="not permitted"):
            taped(lambda wait=wait: wait(torch.ones(())))  # type: ignore[misc]
