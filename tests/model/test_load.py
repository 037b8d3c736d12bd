import json
from pathlib import Path

import pytest
import torch

from har_cache.encoder.transform import crop, normalise
from har_cache.encoder.weights import save_encoder
from har_cache.errors import HarCacheError
from har_cache.model import run as runs
from har_cache.model import writer
from har_cache.model.config import FINETUNED, HEAD, BestEpoch, RunConfig, Start, write_config
from har_cache.model.head import Head
from har_cache.model.load import load_network
from har_cache.model.network import CNNBidirectionalRNN
from har_cache.model.run import Run
from har_cache.settings.training import HeadSettings, TrainSettings, TuneSettings
from har_cache.storage.files import sha256

from ..helpers.caches import make_recipe
from ..helpers.networks import calibrated_model, pictures

SETTINGS = HeadSettings(hidden=4, width=6)


def write_run(path: Path, stage: str) -> CNNBidirectionalRNN:
    """A finished run of this stage, and the network that it holds."""
    path.mkdir(parents=True)
    torch.manual_seed(3)
    network = CNNBidirectionalRNN(calibrated_model(), Head(2, SETTINGS)).eval()
    encoder = save_encoder(network.encoder)  # type: ignore[arg-type]
    tuned = stage == FINETUNED
    config = RunConfig(
        stage=stage,
        split=1,
        cache="somewhere",
        fingerprint="f" * 64,
        recipe=make_recipe(encoder_sha256=sha256(encoder), precision="bf16-mixed"),
        classes=("a", "b"),
        head=SETTINGS,
        training=TuneSettings(frames=8) if tuned else TrainSettings(frames=8),
        data="data" if tuned else None,
        started_from=Start("run", "0" * 64) if tuned else None,
        best=BestEpoch(1, 1.0, 0.5),
        model_sha256=writer.save_model(network if tuned else network.head, path),
    )
    if stage == HEAD:
        (path / runs.ENCODER).write_bytes(encoder)
    writer.write_clips(path, {"a/1.avi": "train"})
    write_config(path, config)
    return network


@pytest.mark.parametrize("stage", [HEAD, FINETUNED])
def test_the_network_of_either_stage_comes_back(tmp_path: Path, stage: str) -> None:
    network = write_run(tmp_path / "run", stage)
    run = Run.open(tmp_path / "run")
    loaded = load_network(run)
    assert not loaded.training and {p.dtype for p in loaded.parameters()} == {torch.float32}
    frames, mask = normalise(crop(pictures(6))).unflatten(0, (2, 3)), torch.ones(2, 3, dtype=torch.bool)
    with torch.inference_mode():
        assert torch.equal(loaded(frames, mask), network(frames, mask))


def test_an_encoder_that_is_damaged_or_gone_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", HEAD)
    file = tmp_path / "run" / runs.ENCODER
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(HarCacheError, match=r"encoder\.safetensors: damaged"):
        load_network(Run.open(tmp_path / "run"))
    file.unlink()
    with pytest.raises(HarCacheError, match=r"encoder\.safetensors: not there"):
        load_network(Run.open(tmp_path / "run"))


def test_a_run_without_a_recipe_is_an_older_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", HEAD)
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["recipe"], config["sha256"]
    file.write_text(json.dumps({**config, "schema": "har-run/1"}))
    with pytest.raises(HarCacheError, match=r"older har-cache.*--overwrite"):
        load_network(Run.open(tmp_path / "run"))
