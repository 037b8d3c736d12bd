import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from har_cache_cli.main import app
from typer.testing import CliRunner

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import CacheError, RunError
from har_cache.evaluation.results import read_evaluation
from har_cache.model.run import Run
from har_cache.reproduction import protocol as module
from har_cache.reproduction.matrix import MADE_UP, sentence, table
from har_cache.reproduction.protocol import Protocol, Row, protocol, protocol_splits

from ..conftest import contents
from ..helpers.caches import random_embeddings, write_cache
from ..helpers.sealed import change_sealed
from .conftest import Done, Told


@pytest.fixture
def found(done: Done) -> Protocol:
    return done.protocol


def test_the_matrix_adds_up(done: Done, found: Protocol) -> None:
    cache = FeatureCache(done.settings.cache)
    assert [row.trained_on for row in found.honest] == [1, 2, 3] and found.headline.trained_on == 1
    for row in (*found.honest, found.headline):
        assert [cell.tested_on for cell in row.cells] == [1, 2, 3]
        for cell in row.cells:
            groups = (cell.seen, cell.sibling, cell.clean)
            assert cell.all_clips.clips == (cache.subsets[:, cell.tested_on - 1] == TEST).sum()
            assert sum(group.clips for group in groups) == cell.all_clips.clips
            assert sum(group.share for group in groups) == pytest.approx(1)
            right = sum(group.clips * (group.top1 or 0) for group in groups)
            assert right == pytest.approx(cell.all_clips.clips * cell.all_clips.top1)
            assert cell.other_class is not None and cell.other_class.clips <= cell.clean.clips
            # The same as in the evaluation that the run holds.
            metrics = read_evaluation(Path(row.run) / "evaluate" / f"split{cell.tested_on}").metrics
            assert (metrics.top1, metrics.leakage.seen) == (cell.all_clips.top1, cell.seen)
        if row.validated_on is None:
            own = row.on(row.trained_on)
            assert own.clean.clips == own.all_clips.clips


def test_both_protocols_are_what_they_are_said_to_be(done: Done, found: Protocol) -> None:
    settings = done.training
    cache = FeatureCache(settings.cache)
    subsets = dict(zip(cache.clip_keys, cache.subsets.tolist(), strict=True))
    trained = {key for key, parts in subsets.items() if parts[0] == TRAIN}
    picked = {key for key, parts in subsets.items() if parts[1] == TEST}
    clips = Run.open(settings.run / "headline").clips
    assert {key for key, subset in clips.items() if subset == "train"} == trained and set(clips) == trained | picked
    assert found.headline.validated_on == 2 and found.headline.val_clips == len(picked - trained) > 0
    tested = {key for key, parts in subsets.items() if parts[2] == TEST}
    assert found.leaked.tested_on == 3 and found.leaked.seen.clips == len(tested & (trained | picked)) > 0
    for split, row in enumerate(found.honest, 1):
        held = Run.open(settings.run / f"split{split}")
        assert set(held.clips) == {key for key, parts in subsets.items() if parts[split - 1] == TRAIN}
        assert row.validated_on is None and row.val_clips == list(held.clips.values()).count("val") > 0


def test_the_leak_shows(done: Done, found: Protocol) -> None:
    """A model that knows the clips is far better on them than one that does not."""
    assert found.leaked.all_clips.top1 is not None
    assert found.leaked.all_clips.top1 > found.honest_top1 + 0.3
    assert found.honest_top1 == pytest.approx(sum(found.honest[k].cells[k].all_clips.top1 or 0 for k in range(3)) / 3)


def test_what_is_done_is_not_done_again_and_what_was_interrupted_goes_on(
    done: Done, found: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done.training.run
    written = (run / "protocol.json").read_bytes()
    for split in ("split2", "split3"):
        shutil.rmtree(run / split)
    first = (run / "split1" / "last.ckpt").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        protocol(done.training, Told(stop=run / "split2" / "config.json"))
    assert (run / "split2" / "last.ckpt").exists() and not (run / "split3").exists()
    assert protocol(done.training) == found and (run / "protocol.json").read_bytes() == written
    assert (run / "split1" / "last.ckpt").stat().st_mtime_ns == first

    def fail(*_: object) -> None:
        raise AssertionError("evaluated again")

    monkeypatch.setattr(module, "evaluate", fail)
    before = contents(run)
    assert protocol(done.training) == found and contents(run) == before


def test_an_evaluation_of_another_model_is_made_again(done: Done, found: Protocol) -> None:
    metrics = done.training.run / "headline" / "evaluate" / "split3" / "metrics.json"
    change_sealed(metrics, lambda content: content.update(model_sha256="0" * 64, top1=0.125))
    assert protocol(done.training) == found
    with pytest.raises(RunError, match="other settings"):
        protocol(replace(done.training, training=replace(done.training.training, epochs=9)))


def test_the_sentence_has_the_figures(done: Done, found: Protocol) -> None:
    said, cell = sentence(found), found.leaked

    def percent(share: float | None) -> str:
        return f"{100 * (share or 0):.1f}%"

    for part in (
        f"The headline, {percent(cell.all_clips.top1)} (trained on split 1",
        f"{cell.seen.clips} clips of {cell.all_clips.clips} that the model was trained or validated on",
        f"({percent(cell.seen.top1)} right)",
        f"the same model has {percent(found.honest_top1)} right (mean of 3 splits): ",
        f"{100 * ((cell.all_clips.top1 or 0) - found.honest_top1):.1f} points of the headline",
    ):
        assert part in said
    rows = table(found).rows
    assert len(rows) == 4 * 5 and all(len(row) == 5 for row in rows)
    assert rows[15][0] == "split 1, validated on test list 2"
    assert rows[15][3] == f"{100 * (cell.all_clips.top1 or 0):.1f} of {cell.all_clips.clips}"
    assert rows[1][1] == "-"  # split 1 has seen nothing of its own test list
    assert MADE_UP in table(found).notes


def test_the_sentence_is_right_where_nothing_leaks(done: Done, found: Protocol) -> None:
    """Small samples have no sibling, or a headline that is no higher."""
    nobody = replace(found.leaked.seen, clips=0, top1=None, share=0.0)
    low = replace(found.leaked.all_clips, top1=0.0)
    cells = (*found.headline.cells[:2], replace(found.leaked, all_clips=low, sibling=nobody, clean=nobody))
    said = sentence(replace(found, headline=replace(found.headline, cells=cells)))
    assert "and 0 more from films that it knows in that class; there are no others." in said
    assert said.endswith("right (mean of 3 splits): here, no less.") and "points of the headline" not in said


def test_the_command_prints_one_table_or_one_object(done: Done, found: Protocol) -> None:
    settings = done.training
    command = ["protocol", str(settings.cache), "--run", str(settings.run), "--device", "cpu"]
    command += ["--epochs", "6", "--frames", "4", "--lr", "0.005", "--hidden", "8", "--width", "16"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0 and sentence(found) in shown.stdout
    as_json = CliRunner().invoke(app, [*command, "--json"])
    written = json.loads((settings.run / "protocol.json").read_text())
    assert written.pop("sha256") and json.loads(as_json.stdout) == written


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_protocol_takes_three_splits_and_all_that_there_are(tmp_path: Path, count: int) -> None:
    write_cache(tmp_path / "cache", random_embeddings({"a/1.avi": 1}), subsets={"a/1.avi": (TRAIN,) * count})
    if count < 3:
        with pytest.raises(CacheError, match=f"has {count} of the 3 splits that the protocol takes"):
            protocol_splits(tmp_path / "cache")
    else:
        assert protocol_splits(tmp_path / "cache") == tuple(range(1, count + 1))


def test_the_table_has_a_column_for_each_list(found: Protocol) -> None:
    def more(row: Row) -> Row:
        return replace(row, cells=(*row.cells, replace(row.cells[0], tested_on=4)))

    wider = table(replace(found, honest=tuple(map(more, found.honest)), headline=more(found.headline)))
    assert wider.header == ("trained on", *(f"test list {k}" for k in range(1, 5)), "clips")
    assert {len(row) for row in wider.rows} == {6}
