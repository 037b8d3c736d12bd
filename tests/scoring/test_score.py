import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from har_cache.cache.reader import FeatureCache
from har_cache.data.splits import TEST, TRAIN
from har_cache.errors import CacheError, HarCacheError, SettingError
from har_cache.evaluation.results import Metrics, read_evaluation
from har_cache.evaluation.summary import figures
from har_cache.scoring.score import score
from har_cache.settings.evaluation import EvaluateSettings, ScoreSettings

from ..evaluation.test_evaluate import module as evaluation
from ..evaluation.test_evaluate import no_network  # noqa: F401
from ..helpers import caches
from ..helpers.synthetic import small_subsets, write_cache, write_run
from .conftest import Scored, listed, right_rows, write_table

HEADER = ["key", "predicted"]
OF_A_RUN = {  # what predictions do not tell
    "stage",
    "trained_on",
    "model_sha256",
    "projection_fit",
    "linear_on_mean",
    "linear_on_moments",
    "seed",
}


def told(metrics: Metrics, *less: str) -> dict[str, object]:
    return {name: value for name, value in vars(metrics).items() if name not in OF_A_RUN | {*less}}


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("split", [1, 2])
def test_the_tables_of_a_run_give_its_own_figures(tmp_path: Path, split: int) -> None:
    subsets = small_subsets(classes=7, clips=2)
    lost = next(key for key, parts in subsets.items() if parts[split - 1] == TEST)
    cache = write_cache(tmp_path / "cache", subsets, class_signal=0.3, failed={lost: "no frame decodes"})
    run = write_run(tmp_path / "run", cache)
    settings = EvaluateSettings(run=run, split=split, probabilities=True)
    (own,) = evaluation.evaluate(settings)
    known = {"cache": cache.path, "trained_on": run / "clips.csv"}
    exact = score(ScoreSettings(**known, predictions=own.folder / "probabilities.csv"))
    assert (
        own.metrics.top5 is not None
        and own.metrics.leakage.leaks == (split == 2)
        and own.metrics.missing == {lost: "failed: no frame decodes"}
    )
    assert told(exact.metrics) == told(own.metrics)
    assert exact.predictions == own.predictions
    from_table = score(ScoreSettings(**known, predictions=own.folder / "predictions.csv", out=tmp_path / "out"))
    rounded = ("loss", "calibration_error")
    assert told(from_table.metrics, *rounded) == told(own.metrics, *rounded)
    assert from_table.metrics.loss is None
    assert from_table.metrics.calibration_error == pytest.approx(own.metrics.calibration_error, abs=1e-6)
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == (own.folder / "predictions.csv").read_bytes()
    assert (tmp_path / "out" / "per_class.csv").read_bytes() == (own.folder / "per_class.csv").read_bytes()


def test_files_and_page_are_those_of_an_evaluation(scored: Scored, tmp_path: Path) -> None:
    rows = right_rows()
    rows[0][1] = "act1"
    found = scored(HEADER, rows, out=tmp_path / "out")
    names = {"metrics.json", "predictions.csv", "per_class.csv", "confusion.png", "report.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    back = read_evaluation(tmp_path / "out")
    assert back.metrics == found.metrics and back.predictions == found.predictions
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (content["stage"], content["loss"], content["calibration_error"]) == ("scored", None, None)
    assert found.page is not None
    page = found.page.read_text()
    assert f"{11 / 12:.1%}" in page and "Training" not in page and "sure</p>" not in page and "predictions.csv" in page
    scored(HEADER, rows, out=tmp_path / "out")  # again, over its own files


def test_a_directory_of_other_files_is_left_alone(scored: Scored, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(HarCacheError, match=r"holds other files \(thesis.tex"):
        scored(HEADER, right_rows(), out=tmp_path / "out")


def test_the_list_that_is_predicted_is_the_one_that_is_scored(scored: Scored) -> None:
    found = scored(HEADER, right_rows(2)).metrics
    assert (found.split, found.clips, found.top1) == (2, 12, 1.0)
    assert found.leakage.seen.clips == 12 and figures(found).startswith(
        "WARNING: the model was trained or validated on"
    )
    everything = [[key, key.partition("/")[0]] for key in (*listed(TEST), *listed(TRAIN))]
    with pytest.raises(HarCacheError, match="holds the test lists of splits 1, 2, 3: say with --split which one"):
        scored(HEADER, everything)
    assert scored(HEADER, everything, split=1).metrics.clips == 12
    with pytest.raises(HarCacheError, match="holds no whole test list: say with --split"):
        scored(HEADER, right_rows()[1:])
    with pytest.raises(
        HarCacheError, match=r"1 of the 12 clips of the test list of split 1 are not predicted: act0/film0"
    ):
        scored(HEADER, right_rows()[1:], split=1)
    with pytest.raises(HarCacheError, match="holds no prediction of a clip of the test list of split 3"):
        scored(HEADER, right_rows(), split=3)
    with pytest.raises(SettingError, match=r"--split 4: .* has splits 1 to 3"):
        scored(HEADER, right_rows(), split=4)


def test_sources_are_the_data_set_s_own(tmp_path: Path) -> None:
    keys = {f"{name}/{i}.mp4": (TEST if i < 6 else TRAIN,) for name in "ab" for i in range(12)}
    sources = {key: f"{key[0]}/person{int(key[2:-4]) % 6}" for key in keys}
    embeddings = caches.random_embeddings(dict.fromkeys(keys, 2))
    caches.write_cache(tmp_path / "cache", embeddings, subsets=keys, sources=sources)
    tested = [key for key, parts in keys.items() if parts == (TEST,)]
    table = write_table(tmp_path / "p.csv", HEADER, [[key, key[0]] for key in tested])
    trained = write_table(tmp_path / "t.csv", ["key", "subset"], [["a/6.mp4", "train"], ["b/7.mp4", "val"]])
    found = score(ScoreSettings(cache=tmp_path / "cache", predictions=table, trained_on=trained))
    leakage = found.metrics.leakage
    assert leakage.other_class is not None
    assert (leakage.seen.clips, leakage.sibling.clips, leakage.other_class.clips) == (0, 2, 2)
    assert (found.metrics.films, found.metrics.train_clips, found.metrics.val_clips) == (6, 1, 1)
    assert "trained on 1 clips, and validated on 1 more" in figures(found.metrics)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cache": None}, r"--cache and --data \(or --list\) both say which clips there are: give one"),
        ({"data": Path("d")}, r"--cache and --data \(or --list\) both say which clips there are: give one"),
        ({"splits": Path("s")}, "--splits, --folds and --source-pattern go with --data"),
        ({"source_pattern": "x"}, "--splits, --folds and --source-pattern go with --data"),
    ],
)
def test_the_clips_are_of_one_place(scored: Scored, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        scored(HEADER, right_rows(), **given)


def test_a_cache_without_labels_is_one_line(tmp_path: Path) -> None:
    caches.write_cache(tmp_path / "cache", caches.random_embeddings({"clips/a.mp4": 2}), subsets={})
    with pytest.raises(CacheError, match="no labels and no splits"):
        score(ScoreSettings(cache=tmp_path / "cache", predictions=tmp_path, trained_on=tmp_path))


def test_a_folder_is_as_good_as_a_cache(scored: Scored, small_cache: FeatureCache, tmp_path: Path) -> None:
    for key in small_cache.clip_keys[1:]:
        (tmp_path / "data" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / key).touch()
    (tmp_path / "splits").mkdir()
    for name in small_cache.classes:
        for split in (1, 2, 3):
            of_class = [key for key in small_cache.clip_keys if key.startswith(f"{name}/")]
            lines = [
                f"{key.partition('/')[2]} {small_cache.subsets[small_cache.clip_keys.index(key), split - 1]}"
                for key in of_class
            ]
            (tmp_path / "splits" / f"{name}_test_split{split}.txt").write_text("\n".join(lines))
    where = {"cache": None, "data": tmp_path / "data", "splits": tmp_path / "splits", "split": 1}
    rows = [row for row in right_rows() if row[0] != small_cache.clip_keys[0]]
    found, of_cache = scored(HEADER, rows, **where).metrics, scored(HEADER, right_rows()).metrics
    assert found.missing == {small_cache.clip_keys[0]: "not on disk"} and found.fingerprint is None
    assert "are not there, nor predicted" in figures(found)
    whole = scored(HEADER, right_rows(), **where).metrics
    assert dataclasses.replace(whole, fingerprint=small_cache.fingerprint, data_set=of_cache.data_set) == of_cache


def test_names_do_nothing_to_the_page(scored: Scored, tmp_path: Path) -> None:
    out = tmp_path / "<img src=x>"
    found = scored(HEADER, right_rows(), out=out)
    assert found.page is not None and "<img src=x>" not in found.page.read_text()


def test_a_list_and_a_pattern_say_what_the_clips_are(scored: Scored, tmp_path: Path) -> None:
    lines, rows, trained = ["path,label,split1"], [], []
    for i in range(12):
        (tmp_path / "videos" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / "x" / f"p{i % 4}_{i}.mp4").touch()
        lines.append(f"videos/x/p{i % 4}_{i}.mp4,{'ab'[i % 2]},{'test' if i < 4 else 'train'}")
        (rows if i < 4 else trained).append([f"videos/x/p{i % 4}_{i}.mp4", "ab"[i % 2]])
    (tmp_path / "clips.csv").write_text("\n".join(lines).replace("split1", "split"))
    table = write_table(tmp_path / "t.csv", ["key"], [row[:1] for row in trained if "p3" not in row[0]])
    where = {"cache": None, "lists": (str(tmp_path / "clips.csv"),), "trained_on": table}
    told = scored(HEADER, rows, **where, source_pattern="(p[0-9])_").metrics
    assert (told.leakage.sibling.clips, told.leakage.clean.clips, told.sources_from) == (3, 1, None)
    untold = scored(HEADER, rows, **where).metrics
    assert (untold.leakage.clean.clips, untold.sources_from) == (4, "files")
    assert "WARNING: each file is taken for a source of its own" in figures(untold)
