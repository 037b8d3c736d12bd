import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from har_cache.errors import HarCacheError, RunError
from har_cache.model import run, writer
from har_cache.model.config import BestEpoch, read_config, write_config
from har_cache.model.run import Run
from har_cache.settings.training import TrainSettings

from .test_run import CLIPS, config, read_clips, write_run


def test_other_files_are_not_mixed_with_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HarCacheError, match=r"holds other files \(thesis\.tex"):
        writer.begin(tmp_path, config(), {})


def test_clearing_leaves_what_is_not_a_run_s(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").touch()
    (tmp_path / "run" / "evaluate" / "split1").mkdir(parents=True)
    (tmp_path / "run" / "evaluate" / "split1" / "metrics.json").touch()
    writer.clear(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_is_begun_gone_on_with_and_not_mixed_with_another(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert writer.begin(path, config(), CLIPS, encoder=b"encoder")
    assert read_clips(path) == CLIPS and (path / run.ENCODER).read_bytes() == b"encoder"
    with pytest.raises(HarCacheError, match=r"unfinished run.*--resume"):
        writer.begin(path, config(), CLIPS)
    assert writer.begin(path, config(), CLIPS, resume=True)
    other = config(split=2, training=TrainSettings(epochs=3))
    with pytest.raises(HarCacheError, match=r"other settings \(split; epochs 64, now 3; clips of the training list\)"):
        writer.begin(path, other, {}, resume=True)
    write_config(path, config(model_sha256="0", best=BestEpoch(1, 1.0, 0.5)))
    assert not writer.begin(path, config(), CLIPS, resume=True)
    with pytest.raises(HarCacheError, match=r"finished run.*--overwrite"):
        writer.begin(path, config(), CLIPS)
    assert writer.begin(path, other, {}, overwrite=True) and read_clips(path) == {}


def test_a_damaged_run_can_be_overwritten(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_bytes(b"{")
    with pytest.raises(HarCacheError, match="no JSON object"):
        writer.begin(tmp_path / "run", config(), CLIPS)
    assert writer.begin(tmp_path / "run", config(), CLIPS, overwrite=True)


@pytest.mark.parametrize(
    ("begun", "now", "message"),
    [
        (0, 2, "(fold 0, now 2)"),
        (None, 1, "(fold drawn by the seed, now 1)"),
        (1, 1, "(clips of the training list)"),
    ],
)
def test_a_run_of_other_clips_is_not_gone_on_with_and_says_whether_it_is_the_fold(
    tmp_path: Path, begun: int | None, now: int, message: str
) -> None:
    assert writer.begin(tmp_path / "run", config(fold=begun), {"a/1": "train", "a/2": "val"})
    with pytest.raises(HarCacheError, match=re.escape(f"was begun with other settings {message}; give the same")):
        writer.begin(tmp_path / "run", config(fold=now), {"a/1": "val", "a/2": "train"}, resume=True)


GPU = {"torch": "2.11", "gpu": "A", "driver": "1"}


def test_a_second_writer_of_a_run_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with writer.writing(tmp_path / "run", print):
        said = "another training or evaluation is at work here; wait for it, or end it"
        with pytest.raises(RunError, match=said), writer.writing(tmp_path / "run", print):
            pass
        assert Run.open(tmp_path / "run").clips == CLIPS


def test_what_a_killed_writer_left_in_a_run_is_gone_with_the_next(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    for name in ("", "evaluate/split1", "folds/0"):
        (tmp_path / "run" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name / ".tmp-abc").write_bytes(b"half")
    with writer.writing(tmp_path / "run", print):
        pass
    assert not list((tmp_path / "run").rglob(".*"))


def test_where_nothing_is_written_no_directory_is_left(tmp_path: Path) -> None:
    with pytest.raises(HarCacheError), writer.writing(tmp_path / "run", print):
        raise HarCacheError
    assert not (tmp_path / "run").exists()
    with writer.writing(tmp_path / "run", print):
        writer.begin(tmp_path / "run", config(), CLIPS)
    assert read_clips(tmp_path / "run") == CLIPS


def test_a_flipped_bit_in_a_run_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with writer.writing(path, print):
        writer.begin(path, config(), CLIPS)
    begun = read_config(path)
    assert begun is not None
    write_config(path, replace(begun, model_sha256="0" * 64, best=BestEpoch(1, 1.0, 0.5)))
    for name in ("config.json", "clips.csv"):
        whole = (path / name).read_bytes()
        for i in range(0, len(whole), 5):
            (path / name).write_bytes(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :])
            with pytest.raises(RunError, match=rf"{re.escape(name)}: damaged"):
                Run.open(path)
        (path / name).write_bytes(whole)
    assert Run.open(path).clips == CLIPS


def resume(path: Path, **changes: Any) -> list[str]:
    """What is said when the run of `config(device="cuda:0", versions=GPU)` is gone on with, some of that changed."""
    said: list[str] = []
    begun = config(device="cuda:0", versions=GPU)
    assert writer.begin(path, begun, {}, say=said.append) and said == []
    assert writer.begin(path, replace(begun, **changes), {}, resume=True, say=said.append)
    return said


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"device": "cpu", "versions": {"torch": "2.11"}}, "device cuda, now cpu"),
        ({"versions": {**GPU, "gpu": "B", "torch": "3.0"}}, "gpu A, now B; torch 2.11, now 3.0"),
        ({"device": "cuda:1", "versions": {**GPU, "driver": "2"}}, "driver 1, now 2"),
    ],
)
def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path, changes: dict[str, Any], moved: str) -> None:
    [line] = resume(tmp_path / "run", **changes)
    assert line == f"WARNING: {tmp_path / 'run'}: was begun with {moved}: it may end with slightly other figures"


@pytest.mark.parametrize("changes", [{}, {"device": "cuda:1"}, {"versions": {**GPU, "numpy": "3"}}, {"versions": {}}])
def test_a_run_that_goes_on_with_the_same_says_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert resume(tmp_path / "run", **changes) == []


def test_sources_are_kept_where_names_do_not_tell_them(tmp_path: Path) -> None:
    clips, sources = {"a/1": "train", "a/2": "val"}, {"a/1": "a/park"}
    writer.begin(tmp_path / "plain", config(), clips, sources={"a/1": "a/1", "a/2": "a/2"})
    assert (tmp_path / "plain" / "clips.csv").read_text().startswith("key,subset\n")
    path = tmp_path / "run"
    writer.begin(path, config(), clips, sources=sources)
    begun = read_config(path)
    assert begun is not None and (path / "clips.csv").read_text().startswith("key,subset,source\na/1,train,a/park")
    assert run.read_clips(path, begun) == clips
    assert run.read_sources(path, begun) == {"a/1": "a/park", "a/2": "a/2"}
    assert writer.begin(path, config(), clips, resume=True, sources=sources)
    with pytest.raises(RunError, match="other settings \\(sources of clips\\)"):
        writer.begin(path, config(), clips, resume=True)
