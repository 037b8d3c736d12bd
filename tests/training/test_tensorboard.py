import sys
from dataclasses import replace

import pytest

from har_cache.errors import HarCacheError
from har_cache.model.run import TENSORBOARD
from har_cache.progress import Progress
from har_cache.settings.training import TrainHeadSettings
from har_cache.training.checkpoints import read_metrics
from har_cache.training.tensorboard import curves
from har_cache.training.train_head import train_head


class StopAfterAnEpoch(Progress):
    def advance(self, count: int = 1, note: str = "") -> None:
        if note.startswith("epoch 1 of "):
            raise KeyboardInterrupt


def scalars(folder):
    """Of each curve its epochs and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_curves_are_those_of_metrics_csv_after_an_interruption_too(settings: TrainHeadSettings) -> None:
    pytest.importorskip("tensorboard")
    wanted = replace(settings, training=replace(settings.training, epochs=2), tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        train_head(wanted, StopAfterAnEpoch())
    folder = settings.run / TENSORBOARD
    assert [epoch for epoch, _ in scalars(folder)["loss/validation"]] == [1]
    train_head(replace(wanted, resume=True))
    found, rows = scalars(folder), read_metrics(settings.run)
    for tag, name in {
        "loss/training": "train_loss",
        "accuracy/validation": "val_accuracy",
        "learning rate": "lr",
    }.items():
        assert found[tag] == [(row["epoch"], pytest.approx(row[name], rel=1e-5)) for row in rows]
    train_head(replace(wanted, overwrite=True, tensorboard=False))
    assert not folder.exists()


def test_without_tensorboard_it_is_said_how_to_get_it_before_anything_is_done(
    settings: TrainHeadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(HarCacheError, match=r"pip install tensorboard"):
        train_head(replace(settings, tensorboard=True))
    assert not settings.run.exists()


def test_where_none_are_wanted_nothing_is_written(tmp_path):
    with curves(tmp_path, False) as tell:
        tell([])
    assert not list(tmp_path.iterdir())
