import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from har_cache.encoder.transform import TRANSFORM, normalise
from har_cache.errors import HarCacheError
from har_cache.exporting import export as exporting
from har_cache.exporting.export import METADATA, FramesToLogits, Runner, export
from har_cache.model.config import HEAD
from har_cache.model.network import CNNBidirectionalRNN

from ..helpers.networks import picture_crops
from ..helpers.progress import Lines
from ..helpers.videos import moving_frames, write_video
from ..model.test_load import write_run


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CNNBidirectionalRNN]:
    path = tmp_path_factory.mktemp("run") / "run"
    return path, write_run(path, HEAD)


def agrees(network: CNNBidirectionalRNN, runner: Runner) -> None:
    """On pictures, in other numbers of clips and frames than were exported or checked when it was written."""
    for clips, steps in ((1, 3), (4, 2), (2, 9)):
        crops = picture_crops()[: clips * steps]
        mask = torch.arange(steps) <= torch.arange(clips)[:, None]
        with torch.inference_mode():
            expected = network(normalise(crops).unflatten(0, (clips, steps)), mask).numpy()
        frames = crops.to(torch.uint8).contiguous().unflatten(0, (clips, steps))
        np.testing.assert_allclose(runner(frames.numpy(), mask.numpy()), expected, rtol=0, atol=1e-4)


def about(metadata: dict[str, str]) -> None:
    assert json.loads(metadata["classes"]) == ["a", "b"] and metadata["frames"] == "8"
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406] and json.loads(metadata["std"])[0] == 0.229
    assert metadata["views"] == "center" and metadata["transform"] == TRANSFORM
    assert metadata["fingerprint"] == "f" * 64 and metadata["stage"] == "head"


def test_onnx_runs_in_onnx_runtime_and_says_what_it_is(
    network: tuple[Path, CNNBidirectionalRNN], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    progress = Lines()
    written = export(network[0], tmp_path / "model.onnx", progress=progress)
    assert [line.split()[0] for line in progress.said] == ["Tracing", "Writing", "Running"]
    assert written.checked_on == "patterned noise"
    assert written.difference < 1e-4 and written.bytes == written.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(written.path)
    about(session.get_modelmeta().custom_metadata_map)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes == {"frames": ["batch", "frames", 3, 224, 224], "mask": ["batch", "frames"]}
    agrees(network[1], lambda frames, mask: session.run(["logits"], {"frames": frames, "mask": mask})[0])


def test_pt2_runs_in_torch_alone_and_says_what_it_is(network: tuple[Path, CNNBidirectionalRNN], tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi", moving_frames(20))
    written = export(network[0], tmp_path / "model.pt2", video)
    assert written.difference < 1e-4 and str(video) in written.checked_on
    extra = {METADATA: ""}
    program = torch.export.load(written.path, extra_files=extra)
    about(json.loads(extra[METADATA]))
    assert "har_cache" not in str(program.graph)
    model = program.module()
    agrees(network[1], lambda f, m: model(torch.from_numpy(f), torch.from_numpy(m)).numpy(force=True))


def test_a_file_that_does_not_agree_is_not_written(
    network: tuple[Path, CNNBidirectionalRNN], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FramesToLogits(network[1])

    def runner(wrong: float) -> Runner:
        def run(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                logits = model(torch.from_numpy(frames), torch.from_numpy(mask)).numpy()
            return logits + (wrong if len(frames) == 3 else 0)

        return run

    monkeypatch.setattr(exporting, "_trace", lambda *_: None)
    monkeypatch.setattr(exporting, "_pt2_bytes", lambda *_: b"a program")
    for wrong in (0.002, float("nan")):
        monkeypatch.setattr(exporting, "_pt2_runner", lambda _, wrong=wrong: runner(wrong))
        with pytest.raises(HarCacheError, match=r"model\.pt2: not written"):
            export(network[0], tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(exporting, "_pt2_runner", lambda _: runner(0.0))
    rounding = export(network[0], tmp_path / "right.pt2").difference
    monkeypatch.setattr(exporting, "_pt2_runner", lambda _: runner(0.0002))
    assert export(network[0], tmp_path / "model.pt2").difference == pytest.approx(0.0002, abs=rounding + 1e-6)
    assert (tmp_path / "model.pt2").read_bytes() == b"a program"


def test_a_file_need_not_agree_better_than_float32_does_with_float64(
    network: tuple[Path, CNNBidirectionalRNN], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = network[1]

    def off(wrong: float) -> Runner:
        def run(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return FramesToLogits(logits)(torch.from_numpy(frames), torch.from_numpy(mask)).numpy() + wrong

        return run

    monkeypatch.setattr(exporting, "_trace", lambda *_: None)
    monkeypatch.setattr(exporting, "_pt2_bytes", lambda *_: b"a program")
    monkeypatch.setattr(exporting, "_pt2_runner", lambda _: off(0.01))
    with pytest.raises(HarCacheError, match="not written"):  # float64 is much closer
        export(network[0], tmp_path / "model.pt2")
    monkeypatch.setattr(exporting, "_double_runner", lambda *_: off(0.005))
    said = Lines()
    assert export(network[0], tmp_path / "model.pt2", progress=said).difference == pytest.approx(0.01, abs=1e-3)
    assert "own logits are up to 0.005 off in float32" in said.said[-1]
    monkeypatch.setattr(exporting, "_double_runner", lambda *_: off(0.001))
    with pytest.raises(HarCacheError, match="not written"):
        export(network[0], tmp_path / "other.pt2")


def test_what_cannot_be_done_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(to: Path, message: str) -> None:
        with pytest.raises(HarCacheError, match=message):
            export(tmp_path / "no run", to)

    refused(tmp_path / "model.pth", r"--to .*model\.pth: expected a file named \*\.onnx or \*\.pt2")
    refused(tmp_path / "none" / "model.pt2", "no such directory")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    refused(tmp_path / "model.onnx", r"ONNX needs onnxscript.*pip install onnxscript")
    refused(tmp_path / "model.pt2", "no such directory; make one")
