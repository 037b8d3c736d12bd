import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from har_cache.errors import RunError
from har_cache.evaluation.results import (
    Accuracy,
    ConfusedPair,
    Leakage,
    LinearProbe,
    Metrics,
    NotCompared,
    StartComparison,
    TagAccuracy,
    read_evaluation,
    write_evaluation,
)
from har_cache.evaluation.summary import gain, lines, protocol
from har_cache.evaluation.tables import PREDICTIONS_HEADER, ClipPrediction
from har_cache.storage.files import to_csv, write_file

from ..helpers.sealed import write_sealed

NOBODY = Accuracy(0, None, None, 0.0)
METRICS = Metrics(
    stage="finetune",
    split=3,
    trained_on=1,
    splits_from="lists",
    train_clips=40,
    val_clips=8,
    fingerprint="f" * 64,
    model_sha256="0" * 64,
    projection_fit="96 frames of 48 clips",
    projection_saw_test_clips=False,
    clips=4,
    classes=2,
    chance=0.5,
    top1=0.75,
    top5=None,
    loss=0.5,
    macro_f1=0.7,
    mean_class_accuracy=0.75,
    interval=(0.25, 1.0),
    leakage=Leakage(
        NOBODY, NOBODY, clean=Accuracy(4, 0.75, (0.25, 1.0), 1.0), other_class=Accuracy(1, 1.0, None, 0.25)
    ),
    confused=(ConfusedPair("a", "b", 1, 0.5),),
    tags=(TagAccuracy("camera", "camera moves", 4, 0.75, None),),
    linear_on_mean=LinearProbe(0.5, (0.0, 1.0), 0.01),
    films=3,
    linear_on_moments=LinearProbe(0.75, (0.25, 1.0), 0.1),
    missing={"a/lost.avi": "failed: no frame decodes"},
    stage_two=StartComparison("before", 0.5, 1, 0, 1.0, (-0.25, 0.75)),
)


@pytest.mark.parametrize(
    ("p", "interval", "said"),
    [
        (0.727, (-0.02, 0.04), " (95% interval -2.0 to 4.0): {} (exact McNemar p = 0.73): no difference shown"),
        (0.001, (0.01, 0.04), " (95% interval 1.0 to 4.0): {} (exact McNemar p = 0.001): more than chance explains"),
        (
            0.001,
            (-0.04, -0.01),
            " (95% interval -4.0 to -1.0): {} (exact McNemar p = 0.001): more than chance explains",
        ),
        (0.04, (0.0, 0.04), " (95% interval 0.0 to 4.0): {} (exact McNemar p = 0.04): no difference shown"),
        (0.04, None, " (no interval: fewer than 10 films): {} (exact McNemar p = 0.04): no difference shown"),
        (None, None, ": {}"),  # of an earlier version
    ],
)
def test_fine_tuning_is_said_to_differ_only_where_the_interval_says_so(p: Any, interval: Any, said: str) -> None:
    line = gain(replace(METRICS, stage_two=StartComparison("before", 0.74, 5, 3, p, interval)))
    counts = said.format("5 clips put right, 3 put wrong")
    assert line == f"Stage two (before) on the same clips: 74.0%; fine-tuning +1.0 points{counts}"


def test_where_the_best_epoch_was_picked_is_said() -> None:
    assert "; what was kept decided on 8 more, held out by source; " in protocol(METRICS)  # which is a fine-tuned run
    assert "; best epoch picked on 8 more, held out by source; " in protocol(replace(METRICS, stage="head"))
    line = protocol(replace(METRICS, stage="head", validated_on=2))
    assert "; best epoch picked on the test list of split 2, nothing held out; " in line and "held out by" not in line


@pytest.mark.parametrize(("seen", "siblings"), [(0, 0), (1, 0), (0, 1)])
def test_one_clip_that_the_model_knew_is_a_leak(seen: int, siblings: int) -> None:
    knew = Leakage(replace(NOBODY, clips=seen), replace(NOBODY, clips=siblings), METRICS.leakage.clean)
    assert knew.leaks == (seen + siblings > 0)


@pytest.fixture(autouse=True)
def predictions(tmp_path: Path) -> list[ClipPrediction]:
    """Those of the evaluation, in its folder."""
    found = [ClipPrediction("a/film_a_0.avi", "a", "b", 0.5, "b|a", "clean", 30)]
    write_file(tmp_path / "predictions.csv", to_csv(PREDICTIONS_HEADER, [prediction.row() for prediction in found]))
    return found


def test_predictions_are_read_with_the_figures(tmp_path: Path, predictions: list[ClipPrediction]) -> None:
    write_sealed(tmp_path / "metrics.json", METRICS.to_dict())
    assert read_evaluation(tmp_path).predictions == predictions
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"predictions\.csv: .*; run `har-cache evaluate` again"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("before", [METRICS.stage_two, NotCompared("before", "no such directory"), None])
@pytest.mark.parametrize("linear", [METRICS.linear_on_mean, None])
def test_metrics_come_back_from_json(tmp_path: Path, before: Any, linear: Any) -> None:
    metrics = Metrics(**{**vars(METRICS), "stage_two": before, "linear_on_mean": linear})
    content = metrics.to_dict()
    assert ("stage_two" in content, content["linear_on_mean"] is None) == (before is not None, linear is None)
    for written in (content, {**content, "of a later version": 1}):
        write_sealed(tmp_path / "metrics.json", written)
        assert read_evaluation(tmp_path).metrics == metrics


def test_the_top5_that_earlier_versions_gave_for_few_classes_is_not_shown(tmp_path: Path) -> None:
    for classes, shown in ((2, False), (51, True)):
        write_sealed(tmp_path / "metrics.json", {**METRICS.to_dict(), "top5": 1.0, "classes": classes})
        assert ("top-5 100.0%" in lines(read_evaluation(tmp_path).metrics)[0]) == shown


def test_a_file_of_before_films_were_counted_is_read(tmp_path: Path) -> None:
    content = METRICS.to_dict()
    for name in ("films", "linear_on_moments"):
        del content[name]
    del content["leakage"]["other_class"], content["stage_two"]["p"], content["stage_two"]["interval"]
    write_sealed(tmp_path / "metrics.json", content)
    metrics = read_evaluation(tmp_path).metrics
    assert (metrics.leakage.other_class, metrics.linear_on_moments) == (None, None)
    assert any(line.endswith("mean embedding 50.0%") for line in lines(metrics))
    assert not any("another class" in line for line in lines(metrics))
    assert any("Intervals are by class and film" in line for line in lines(metrics))
    assert not any("Intervals are by class and film" in line for line in lines(METRICS))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"clips": None}, "clips: expected a whole number, found None"),
        ({"clips": "4\n"}, r"clips: expected a whole number, found '4\n'"),
        ({"clips": True}, "clips: expected a whole number, found True"),
        ({"projection_saw_test_clips": 1}, "projection_saw_test_clips: expected true or false, found 1"),
        ({"top1": "all"}, "top1: expected a number, found 'all'"),
        ({"interval": [0.5]}, "interval: expected a list, found [0.5]"),
        ({"interval": [0.5, "1"]}, "interval: expected a number, found '1'"),
        ({"leakage": []}, "leakage: expected an object, found []"),
        ({"leakage": {}}, "leakage: seen is missing"),
        ({"leakage": {**METRICS.to_dict()["leakage"], "clean": {"clips": 4}}}, "leakage: clean: top1 is missing"),
        ({"confused": [{"true": "a"}]}, "confused: predicted is missing"),
        ({"missing": {"a/lost.avi\n": 1}}, "missing: expected a text, found 1"),
        ({"linear_on_mean": 0.5}, "linear_on_mean: expected an object, found 0.5"),
        ({"stage_two": {"run": "before", "top1": 0.5}}, "stage_two: fixed is missing"),
    ],
)
def test_an_edited_file_is_named_with_what_is_wrong_in_it(tmp_path: Path, change: dict[str, Any], wrong: str) -> None:
    write_sealed(tmp_path / "metrics.json", {**METRICS.to_dict(), **change})
    with pytest.raises(RunError) as raised:
        read_evaluation(tmp_path)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'metrics.json'}: {wrong}; ")
    assert said.endswith("run `har-cache evaluate` again")
    assert "\n" not in said


def test_a_file_that_lacks_a_figure_is_refused(tmp_path: Path) -> None:
    came_later = {"films", "linear_on_moments", "stage_two", "calibration_error", "seed", "validated_on"}
    for name in METRICS.to_dict().keys() - {"schema", *came_later}:
        content = METRICS.to_dict()
        del content[name]
        write_sealed(tmp_path / "metrics.json", content)
        with pytest.raises(RunError, match=rf"metrics\.json: {name} is missing"):
            read_evaluation(tmp_path)


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path, predictions: list[ClipPrediction]) -> None:
    rows = to_csv(PREDICTIONS_HEADER, [prediction.row() for prediction in predictions])
    write_evaluation(tmp_path, METRICS, {"predictions.csv": rows, "linear.csv": b"a", "per_class.csv": b"b"})
    found = read_evaluation(tmp_path)
    assert (found.metrics, found.predictions) == (METRICS, predictions)


@pytest.mark.parametrize("name", ["metrics.json", "predictions.csv", "linear.csv", "per_class.csv"])
def test_a_flipped_bit_in_an_evaluation_is_found(tmp_path: Path, name: str) -> None:
    tables = {"predictions.csv": (tmp_path / "predictions.csv").read_bytes(), "linear.csv": b"a", "per_class.csv": b"b"}
    write_evaluation(tmp_path, METRICS, tables)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RunError, match=rf"{name}: damaged .*; run `har-cache evaluate` again"):
        read_evaluation(tmp_path)


def test_an_evaluation_of_before_there_were_seals_is_read(tmp_path: Path) -> None:
    content = {**METRICS.to_dict(), "schema": "har-evaluation/1"}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert read_evaluation(tmp_path).metrics == METRICS
    (tmp_path / "metrics.json").write_text(json.dumps({**content, "schema": "har-evaluation/2"}))
    with pytest.raises(RunError, match="damaged or edited"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("files", [["predictions.csv"], {"../../passwd": "0" * 64}, {"predictions.csv": 1}])
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, files: Any) -> None:
    write_sealed(tmp_path / "metrics.json", {**METRICS.to_dict(), "files": files})
    with pytest.raises(RunError, match="run `har-cache evaluate` again"):
        read_evaluation(tmp_path)
