import itertools

import av
import numpy as np
import pytest

from har_cache.workers import tasks

from ...helpers.videos import moving_frames, reference_frames, write_video
from . import injected
from .mutants import MUTATIONS, mutant

BASES = [bytes(range(256)) * 12, b"RIFF....AVI avih" + bytes(range(255, -1, -1)) * 20, b"\x1aE\xdf\xa3" + b"\7" * 30]


def test_a_seed_makes_the_same_mutants_again():
    first, again, other = ([mutant(seed, i, BASES) for i in range(60)] for seed in (3, 3, 4))
    assert first == again
    assert sum(a.data == b.data for a, b in zip(first, other, strict=True)) < 5


def test_mutants_take_turns_and_are_damaged():
    made = [mutant(0, i, BASES) for i in range(600)]
    assert [each.kind for each in made[: len(MUTATIONS)]] == list(MUTATIONS)
    assert {each.base for each in made} == {0, 1, 2}
    assert sum(each.data == BASES[each.base] for each in made) < 60  # zeros for zeros, say
    assert all(each.data for each in made)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_decoders_misbehave_at_the_packet_that_the_name_asks_for(tmp_path, monkeypatch, after):
    acted = []
    monkeypatch.setitem(injected.MISBEHAVIOURS, "segv", injected.Misbehaviour(acted.append, "", ""))
    monkeypatch.setattr(av, "open", av.open)  # put back what is installed
    injected.install()
    path = write_video(tmp_path / f"0001_segv_at{after}.avi", moving_frames(6))
    with av.open(str(path)) as container:
        before = acted[:]
        packets = container.demux(container.streams.video[0])
        read = list(itertools.takewhile(lambda _: len(acted) == len(before), packets))
    assert len(acted) == (2 if after == 0 else 1)  # it was opened to be written, too
    assert len(read) == (after - 1 if after else 7)


def test_other_names_are_decoded_as_ever(tmp_path, monkeypatch):
    expected = reference_frames(write_video(tmp_path / "0001_segv.avi", moving_frames(3)))
    monkeypatch.setattr(av, "open", av.open)
    injected.install()
    np.testing.assert_array_equal(reference_frames(tmp_path / "0001_segv.avi"), expected)


def test_a_decoder_that_crashes_once_does_so_where_the_clip_is_embedded(tmp_path, monkeypatch):
    died = []
    monkeypatch.setattr(injected, "_dying", lambda number: died.append)
    monkeypatch.setenv(injected._MET, injected.on_path(tmp_path / "decoders")[injected._MET])
    for encoder in (None, object(), object()):
        monkeypatch.setattr(tasks, "_encoder", encoder)
        injected._once("0001_once_at0.avi")
        died.append("")
    assert died == ["", "0001_once_at0.avi", "", ""]
