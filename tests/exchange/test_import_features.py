from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.cache.verify import verify
from har_cache.errors import CacheError, DataError, HarCacheError
from har_cache.evaluation.evaluate import evaluate
from har_cache.exchange.export_features import export_features
from har_cache.exchange.import_features import import_features
from har_cache.exporting.export import export
from har_cache.extraction.extract import extract
from har_cache.finetuning.finetune import finetune
from har_cache.prediction.predict import predict
from har_cache.settings.evaluation import EvaluateSettings, PredictSettings
from har_cache.settings.exchange import ExportFeaturesSettings, ImportSettings
from har_cache.settings.extraction import ExtractSettings
from har_cache.settings.training import FinetuneSettings, HeadSettings, TrainHeadSettings, TrainSettings
from har_cache.training.train_head import train_head

from ..conftest import contents
from ..helpers.caches import action_embeddings, random_embeddings, subsets_by_source, write_cache

WORDS = ("", "train", "test")


@pytest.fixture
def given(tmp_path: Path) -> ImportSettings:
    """Features of four clips, 6 numbers a frame, as video_features writes them."""
    rows = ["path,label,split,source"]
    rng = np.random.default_rng(0)
    for i, (label, subset) in enumerate([("run", "train"), ("run", "test"), ("sit", "train"), ("sit", "test")]):
        rows.append(f"videos/{i}.mp4,{label},{subset},film{i}")
        save(tmp_path / "features" / f"{i}_resnet.npy", rng.standard_normal((3 + i, 6)))
        np.save(tmp_path / "features" / f"{i}_timestamps_ms.npy", 40.0 * np.arange(3 + i))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    return ImportSettings(
        features=tmp_path / "features",
        lists=(str(tmp_path / "list.csv"),),
        cache=tmp_path / "cache",
        origin="video_features resnet50",
        suffix="_resnet",
        shard_clips=2,
    )


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array.astype(np.float32))


def test_features_of_another_tool_become_a_cache(given: ImportSettings) -> None:
    report = import_features(given)
    assert (report.clips, report.frames, report.failures) == (4, 18, {})
    cache = FeatureCache(given.cache)
    assert (cache.recipe.origin, cache.recipe.dim, cache.recipe.model) == ("video_features resnet50", 6, "imported")
    assert cache.classes == ("run", "sit")
    assert cache.sources == ("run/film0", "run/film1", "sit/film2", "sit/film3")
    assert cache.subsets.tolist() == [[1], [2], [1], [2]]
    for i, key in enumerate(cache):
        stored = np.load(given.features / f"{i}_resnet.npy").astype(np.float16)
        assert np.array_equal(cache[key][0], stored)
        assert cache.times(key) == pytest.approx(0.04 * np.arange(3 + i))
    assert verify(given.cache) == []


def test_run_again_it_adds_what_is_new_and_keeps_the_rest(given: ImportSettings) -> None:
    import_features(given)
    before = contents(given.cache / "shards")
    assert import_features(given).clips == 0
    with Path(given.lists[0]).open("a") as file:
        file.write("\nvideos/4.mp4,run,train,film4\n")
    save(given.features / "4_resnet.npy", np.ones((2, 6)))
    assert import_features(given).clips == 1
    assert before.items() < contents(given.cache / "shards").items()
    assert len(FeatureCache(given.cache)) == 5 and verify(given.cache) == []


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "no features: expected 2_resnet.npy"),
        (lambda path: save(path, np.full((3, 6), np.nan)), "a NaN or an infinity in row 0"),
        (lambda path: save(path, np.ones((5, 5))), "5 numbers a frame, where the cache has 6"),
        (lambda path: save(path, np.ones(6)), "shape (6,): expected (frames, dim), one row a frame"),
    ],
)
def test_a_clip_that_is_not_as_it_should_be_is_named_and_tried_again_once_it_is(
    given: ImportSettings, damage: Callable[[Path], None], why: str
) -> None:
    file = given.features / "2_resnet.npy"
    good = np.load(file)
    damage(file)
    assert import_features(given).failures == {"sit/2.mp4": why}
    save(file, good)
    assert import_features(given).failures == {}
    assert np.array_equal(FeatureCache(given.cache)["sit/2.mp4"][0], good.astype(np.float16))
    assert verify(given.cache) == []


def test_a_clip_that_is_not_listed_any_more_costs_itself_when_its_shard_is_made_again(given: ImportSettings) -> None:
    import_features(given)
    (given.cache / "shards" / "00001.h5").unlink()
    path = Path(given.lists[0])
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    assert import_features(given).failures == {"sit/3.mp4": "not in the list any more"}
    assert len(FeatureCache(given.cache)) == 3 and verify(given.cache) == []


def test_features_of_another_origin_do_not_get_into_a_cache(given: ImportSettings, tmp_path: Path) -> None:
    import_features(given)
    with pytest.raises(CacheError, match=r"another origin: video_features resnet50 \(asked: CLIP\)"):
        import_features(replace(given, origin="CLIP"))
    write_cache(tmp_path / "extracted", random_embeddings({"a/1.avi": 2}))
    with pytest.raises(CacheError, match="was extracted from videos; choose another --cache"):
        import_features(replace(given, cache=tmp_path / "extracted"))
    (tmp_path / "data" / "run").mkdir(parents=True)
    (tmp_path / "data" / "run" / "1.avi").write_bytes(b"")
    with pytest.raises(CacheError, match="was made with another recipe"):
        extract(ExtractSettings(data=tmp_path / "data", cache=given.cache, weights="random"))


def test_a_folder_of_other_features_is_refused_with_advice(given: ImportSettings) -> None:
    with pytest.raises(DataError, match=r"no file of 'videos/0\.mp4'.*pass --suffix _resnet"):
        import_features(replace(given, suffix=""))
    assert not given.cache.exists()


def test_two_clips_of_one_file_are_refused(given: ImportSettings) -> None:
    with Path(given.lists[0]).open("a") as file:
        file.write("\nothers/0.mp4,sit,train,film9\n")
    with pytest.raises(DataError, match=r"0_resnet\.npy: would be of run/0\.mp4 and of sit/0\.mp4"):
        import_features(given)


def test_what_was_exported_comes_back(tmp_path: Path) -> None:
    embeddings = random_embeddings({"a/1.avi": 3, "a/2.avi": 5, "b/x y.mp4": 2})
    write_cache(tmp_path / "cache", embeddings, subsets={"a/1.avi": (1, 2), "a/2.avi": (2, 1), "b/x y.mp4": (3, 0)})
    out = tmp_path / "out"
    export_features(ExportFeaturesSettings(cache=tmp_path / "cache", to=out, format="npy"))
    again = tmp_path / "again"
    import_features(ImportSettings(features=out, lists=(str(out / "clips.csv"),), cache=again, origin="ours"))
    before, after = FeatureCache(tmp_path / "cache"), FeatureCache(again)
    assert list(before) == list(after) and before.sources == after.sources
    assert np.array_equal(before.subsets, after.subsets)
    for key in before:
        assert np.array_equal(before[key], after[key]) and np.array_equal(before.times(key), after.times(key))


def test_a_head_learns_from_them_and_what_needs_an_encoder_says_so(tmp_path: Path) -> None:
    embeddings = action_embeddings(classes=2, sources=6, clips=1, lengths=(4, 6))
    subsets, rows = subsets_by_source(embeddings), ["path,label,split1,split2,split3"]
    for key, frames in embeddings.items():
        save(tmp_path / "features" / f"{key}.npy", frames[0, :, :64])
        rows.append(f"{key},{key.partition('/')[0]},{','.join(WORDS[part] for part in subsets[key])}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    given = ImportSettings(
        features=tmp_path / "features", lists=(str(tmp_path / "list.csv"),), cache=tmp_path / "cache"
    )
    import_features(given)
    run = tmp_path / "run"
    training, head = TrainSettings(epochs=1, frames=4), HeadSettings(hidden=4, width=4)
    train_head(TrainHeadSettings(cache=given.cache, run=run, training=training, head=head, device="cpu"))
    [evaluation] = evaluate(EvaluateSettings(run=run, device="cpu"))
    assert evaluation.metrics.clips == sum(part[0] == 2 for part in subsets.values())
    why = r"its features were imported \(not said\), so there is no encoder for videos"
    with pytest.raises(HarCacheError, match=why):
        predict(PredictSettings(run=run, videos=(tmp_path / "x.avi",), device="cpu"))
    with pytest.raises(HarCacheError, match=why):
        export(run, tmp_path / "model.pt2")
    with pytest.raises(HarCacheError, match=why):
        finetune(FinetuneSettings(start=run, data=tmp_path, run=tmp_path / "tuned", device="cpu"))


def test_tables_come_back_as_files_do(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    embeddings = random_embeddings({"a/1.avi": 3, "a/2.avi": 5, "b/x y.mp4": 2})
    write_cache(tmp_path / "cache", embeddings, subsets={"a/1.avi": (1,), "a/2.avi": (2,), "b/x y.mp4": (1,)})
    export_features(ExportFeaturesSettings(cache=tmp_path / "cache", to=tmp_path / "tables", format="parquet"))
    (tmp_path / "list.csv").write_text(
        "path,label,split\na/1.avi,a,train\na/2.avi,a,test\nb/x y.mp4,b,train\nb/0.avi,b,\n"
    )
    lists = (str(tmp_path / "list.csv"),)
    given = ImportSettings(features=tmp_path / "tables", lists=lists, cache=tmp_path / "again")
    assert import_features(given).failures == {"b/0.avi": "no features: no row of 0.avi"}
    before, after = FeatureCache(tmp_path / "cache"), FeatureCache(tmp_path / "again")
    assert list(before) == list(after)
    for key in before:
        assert np.array_equal(before[key], after[key]) and np.array_equal(before.times(key), after.times(key))
    assert import_features(given).clips == 0
    assert import_features(
        replace(given, features=tmp_path / "tables" / "00000.parquet", cache=tmp_path / "file")
    ).clips
