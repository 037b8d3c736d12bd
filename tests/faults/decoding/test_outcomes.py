import json

import numpy as np
import pytest
import torch

from har_cache.workers import watchdog

from ...helpers.videos import moving_frames, reference_frames, write_video
from . import examine, trials
from .reasons import Clip, outcome_of

SAME, DAMAGED = {"frames": 5, "clean": True, "difference": ""}, {"frames": 5, "clean": False, "difference": ""}
ANY, SOUND, HANGING = Clip("k", "o"), Clip("k", "o", ""), Clip("k", "o", "the decoder hangs")
HANGS = "the decoder hangs: no frame for 5 s (tried twice)"


@pytest.mark.parametrize(
    ("clip", "reason", "cached", "seen", "outcome"),
    [
        (ANY, None, True, SAME, "survived"),
        (ANY, None, True, {**SAME, "difference": "frame 3: other pixels"}, "wrong"),
        (ANY, None, True, {"error": "the decoder crashes"}, "wrong"),
        (ANY, None, False, SAME, "lost"),
        (ANY, "no frame decodes", True, SAME, "lost"),
        (ANY, "no frame decodes", False, {**DAMAGED, "frames": 0}, "survived"),
        (ANY, "no frame decodes", False, SAME, "lost"),
        (ANY, "truncated: 3 of 5 declared frames decode", False, SAME, "survived"),
        (ANY, "TypeError: 'NoneType' object", False, DAMAGED, "lost"),
        (ANY, HANGS, False, DAMAGED, "survived"),
        (ANY, HANGS, False, SAME, "lost"),
        (ANY, HANGS, False, {"error": HANGS}, "survived"),
        (SOUND, None, True, SAME, "survived"),
        (SOUND, "no frame decodes", False, DAMAGED, "lost"),
        (HANGING, HANGS, False, SAME, "survived"),
        (HANGING, "the decoder crashes: SIGSEGV (tried twice)", False, SAME, "lost"),
        (HANGING, None, True, SAME, "lost"),
    ],
)
def test_what_comes_of_a_clip(clip, reason, cached, seen, outcome):
    found, detail = outcome_of(clip, reason, cached, seen)
    assert found == outcome
    assert bool(detail) == (outcome != "survived")


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "_stall_s", 60.0, raising=False)
    return write_video(tmp_path / "clip.avi", moving_frames(6))


def test_a_frame_that_is_not_pyavs_is_found(clip, monkeypatch):
    cached = np.zeros((6, 256), np.float16)
    assert examine.compare(clip, cached, False) == examine.Seen(6, True)
    assert examine.compare(clip, cached[:5], False).difference == "5 frames in the cache, 6 by PyAV"
    frames = reference_frames(clip)
    other = frames.copy()
    other[3, 0, 0, 0] ^= 1
    for ours, found in (
        (other, "frame 3: other pixels"),
        (frames[:5], "frame 5: PyAV has more frames"),
        ([*frames, frames[5]], "frame 6: PyAV has fewer frames"),
    ):
        monkeypatch.setattr(examine, "_ours", lambda _, ours=ours: iter(ours))
        assert examine.compare(clip, cached, False) == examine.Seen(6, True, found)


def test_damage_that_pyav_passes_over_is_told(clip):
    assert examine.decode_alone(clip) == examine.Seen(6, True)
    data = clip.read_bytes()
    clip.write_bytes(data.replace(b"\0\0\1\xb6", b"\0\0\0\0"))  # of each picture
    assert not examine.decode_alone(clip).clean
    clip.write_bytes(b"text")
    assert examine.decode_alone(clip) == examine.Seen(0, False)


def test_an_embedding_of_another_frame_is_found(clip, monkeypatch):
    monkeypatch.setattr(examine, "_model", lambda: lambda crops: crops[:, :, 0].flatten(1)[:, :256])
    frames = reference_frames(clip)
    transform = examine.MNASNet0_5_Weights.IMAGENET1K_V1.transforms()
    right = torch.stack([transform(torch.from_numpy(f).permute(2, 0, 1))[:, 0].flatten()[:256] for f in frames])
    assert examine.compare(clip, right.half().numpy(), True) == examine.Seen(6, True, "", True)
    swapped = right[[0, 1, 3, 2, 4, 5]].half().numpy()
    assert "its embedding is" in examine.compare(clip, swapped, True).difference


class Batch(trials._Batch):
    """A batch that is not extracted: its end and what it leaves are given."""

    ended = trials._Extraction(3, "", 0)

    def _extract(self):
        shards = self._folder / "cache" / "shards"
        shards.mkdir(parents=True)
        (shards / "00000.json").write_text(json.dumps({"clips": [{"key": "a/1.avi"}, {"key": "a/3.avi"}]}))
        (self._folder / "cache" / "failures.csv").write_text("key,reason\nb/2.avi,no frame decodes\n")
        return self.ended

    def _seen(self):
        return {"a/1.avi": SAME, "b/2.avi": DAMAGED, "a/3.avi": {**SAME, "difference": "frame 1: other pixels"}}


@pytest.fixture
def batch(tmp_path):
    batch = Batch(tmp_path / "batch", seed=5)
    for name in ("1.avi", "2.avi", "3.avi"):
        batch.add(name, b"data", "kind", f"origin of {name}")
    return batch


def test_a_batch_gives_a_trial_for_itself_and_each_clip_and_keeps_what_did_not_survive(batch, tmp_path):
    said = []
    found = list(batch.tried(said.append))
    assert [(trial.name, trial.outcome) for trial in found] == [
        ("batch", "survived"),
        ("a/1.avi", "survived"),
        ("b/2.avi", "survived"),
        ("a/3.avi", "wrong"),
    ]
    assert "origin of 3.avi, seed 5" in found[-1].detail and "other pixels" in found[-1].detail
    assert [path.name for path in (tmp_path / "batch" / "data").rglob("*.avi")] == ["3.avi"]
    assert said[2:] == [
        "batch: 1 refused, 2 cached (0 with packets that do not decode), 10 frames compared, "
        "the embeddings of 0 clips too"
    ]


def test_clips_that_are_refused_though_pyav_decodes_them_are_told_by_reason(batch, monkeypatch):
    said = []
    monkeypatch.setattr(batch, "_reasons", lambda: {"b/2.avi": "truncated: 3 of 5 declared frames decode"})
    monkeypatch.setattr(batch, "_seen", lambda: dict.fromkeys(("a/1.avi", "b/2.avi", "a/3.avi"), SAME))
    assert {trial.outcome for trial in batch.tried(said.append)} == {"survived"}
    assert said[-1] == (
        "batch: refused, though PyAV decodes all that is there: 1 x truncated: n of n declared frames decode"
    )


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        ((0, "", 0), "survived"),
        ((None, "", 0), "lost"),
        ((1, "Error: no", 0), "lost"),
        ((-11, "", 0), "lost"),
        ((1, "Traceback (most recent call last):", 0), "traceback"),
        ((3, "Traceback (most recent call last):", 0), "traceback"),
        ((3, "", 2), "left"),
    ],
)
def test_how_an_extraction_may_end(batch, ended, outcome):
    batch.ended = trials._Extraction(*ended)
    first, *rest = batch.tried(lambda text: None)
    assert first.outcome == outcome and len(rest) == (3 if ended[0] in (0, 3) else 0)
