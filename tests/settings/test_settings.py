from dataclasses import replace
from pathlib import Path

import pytest

from har_cache.errors import SettingError
from har_cache.options import flag, options
from har_cache.settings.evaluation import AblateSettings, CompareSettings, EvaluateSettings, PredictSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.tools import BenchSettings, SampleSettings
from har_cache.settings.training import FinetuneSettings, HeadSettings, TrainHeadSettings, TrainSettings, TuneSettings

HERE = {"cache": Path("c"), "run": Path("r")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TrainSettings(epochs=0), "--epochs 0: expected at least 1"),
        (TrainSettings(lr=0.0), "--lr 0.0: expected a number above 0"),
        (TrainSettings(lr=float("inf")), "--lr inf: expected a number above 0"),
        (TrainSettings(lr=float("nan")), "--lr nan: expected a number above 0"),
        (TrainSettings(ema=1.0), "--ema 1.0: expected at least 0 and less than 1"),
        (HeadSettings(cell="cnn"), "--cell cnn: expected one of gru, lstm, rnn"),
        (TuneSettings(unfreeze=-1), "--unfreeze -1: expected at least 0"),
        (TuneSettings(epochs=2, head_epochs=3), "--head-epochs 3: expected 0 to 2"),
        (TuneSettings(train_norms=True, checkpointing=True), "give one of them"),
        (TrainHeadSettings(**HERE, split="100"), "--split 100: expected 1 to 99 or all"),
        (TrainHeadSettings(**HERE, head=HeadSettings(hidden=0)), "--hidden 0: expected at least 1"),
        (TrainHeadSettings(**HERE, resume=True, overwrite=True), "--resume goes on .* give one of them"),
        (ExtractSettings(data=Path(), cache=Path(), stall_s=0.0), "--stall-timeout 0.0: expected a number above 0"),
        (
            ExtractSettings(data=Path(), cache=Path(), views=("flip",)),
            "--views flip: expected one of: center; center,flip; center,full; center,flip,full",
        ),
        (ExtractSettings(data=Path(), cache=Path(), workers=0), "--workers 0: expected at least 1"),
        (CompareSettings(runs=(), format="html"), "--format html: expected one of text, markdown, latex"),
        (AblateSettings(run=Path(), split=100), "--split 100: expected at least 1 and at most 99"),
        (SampleSettings(out=Path(), classes=3), "--classes 3: expected an even number"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_its_option(settings, message):
    with pytest.raises(SettingError, match=message):
        settings.check()


EXTRACT = {"data": Path(), "cache": Path()}
ONE_DEVICE = [
    TrainHeadSettings(**HERE),
    FinetuneSettings(start=Path(), data=Path(), run=Path()),
    EvaluateSettings(run=Path()),
    AblateSettings(run=Path()),
    PredictSettings(run=Path(), videos=()),
    BenchSettings(data=Path()),
]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_that_every_stage_takes(device):
    for settings in (*ONE_DEVICE, ExtractSettings(**EXTRACT)):
        replace(settings, device=device).check()


@pytest.mark.parametrize("device", ["cuda:0,2", "cuda:0,cuda:2", "cuda:3,2,cuda:1"])
def test_several_gpus_are_for_extraction_alone(device):
    ExtractSettings(**EXTRACT, device=device).check()
    for settings in ONE_DEVICE:
        with pytest.raises(SettingError) as caught:
            replace(settings, device=device).check()
        assert str(caught.value) == f"--device {device}: expected one device: auto, cpu, cuda or cuda:N"


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0,", "cuda,cuda:1", "cuda:0,cpu"])
def test_what_is_no_device_is_told_what_is(device):
    with pytest.raises(SettingError) as caught:
        ExtractSettings(**EXTRACT, device=device).check()
    assert str(caught.value) == f"--device {device}: expected auto, cpu, cuda, cuda:N, or GPUs as cuda:0,2"


@pytest.mark.parametrize("device", ["cuda:1,1", "cuda:0,cuda:0", "cuda:1,01"])
def test_a_gpu_is_named_once(device):
    with pytest.raises(SettingError, match="expected each GPU once"):
        ExtractSettings(**EXTRACT, device=device).check()


def test_defaults_make_sense():
    for settings in (TrainHeadSettings(**HERE), FinetuneSettings(start=Path(), data=Path(), run=Path())):
        settings.check()


def test_every_setting_of_a_stage_is_an_option_once():
    for settings in (TrainHeadSettings, FinetuneSettings, ExtractSettings):
        names = [flag(field) for field, _ in options(settings)]
        assert len(set(names)) == len(names)
    assert "--from" in [flag(field) for field, _ in options(FinetuneSettings)]
