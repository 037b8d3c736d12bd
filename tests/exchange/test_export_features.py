import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from har_cache import FeatureCache
from har_cache.errors import HarCacheError, SettingError
from har_cache.exchange import clips
from har_cache.exchange.export_features import export_features
from har_cache.settings.exchange import ExportFeaturesSettings
from har_cache.settings.names import FEATURE_FORMATS

from ..conftest import contents
from ..helpers.caches import random_embeddings, write_cache
from ..helpers.progress import Lines

LENGTHS = {"a/1.avi": 3, "a/2.mp4": 5, "a/é 3, x.avi": 1, "b/1.avi": 4, "b/2.avi": 2}
SUBSETS = {"a/1.avi": (1, 2), "a/2.mp4": (2, 1), "a/é 3, x.avi": (3, 0), "b/1.avi": (1, 1), "b/2.avi": (2, 2)}


@pytest.fixture(scope="module")
def embeddings() -> dict[str, np.ndarray]:
    return random_embeddings(LENGTHS, views=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, embeddings: dict[str, np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("cache") / "cache"
    bad = {"b/bad.avi": "empty file"}
    more: dict[str, Any] = {"subsets": SUBSETS, "sources": {"a/1.avi": "a/anna"}, "views": ("center", "flip")}
    write_cache(path, embeddings, failures=bad, shard_clips=2, **more)
    return path


def asked(cache: Path, to: Path, format: str = "npy", **more: Any) -> ExportFeaturesSettings:
    return ExportFeaturesSettings(cache=cache, to=to, format=format, **more)


def test_each_clip_is_a_file_that_numpy_reads(cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray]) -> None:
    done = export_features(asked(cache, tmp_path / "out"))
    assert (done.clips, done.written) == (5, 5)
    for key, frames in embeddings.items():
        assert np.array_equal(np.load(tmp_path / "out" / f"{key}.npy"), frames[0])
        times = np.load(tmp_path / "out" / f"{key}.times.npy")
        assert np.array_equal(times, np.arange(frames.shape[1]) / 30)
    table = (tmp_path / "out" / "clips.csv").read_text().splitlines()
    assert table[0] == "path,label,source,split1,split2"
    assert set(table[1:]) == {
        "a/1.avi.npy,a,anna,train,test",
        "a/2.mp4.npy,a,2,test,train",
        '"a/é 3, x.avi.npy",a,"é 3, x",val,',
        "b/1.avi.npy,b,1,train,train",
        "b/2.avi.npy,b,2,test,test",
    }


def check_rows(rows: list[dict[str, Any]], embeddings: dict[str, np.ndarray]) -> None:
    assert sorted(row["key"] for row in rows) == sorted(embeddings)
    for row in rows:
        frames = embeddings[row["key"]].shape[1]
        assert np.array_equal(np.array(row["embeddings"], np.float16), embeddings[row["key"]][0])
        assert np.array_equal(row["times"], np.arange(frames) / 30)
        assert (row["frames"], row["fps"], row["label"]) == (frames, 30, row["key"][0])
    [row] = [row for row in rows if row["key"] == "a/1.avi"]
    assert (row["source"], row["split1"], row["split2"]) == ("anna", "train", "test")
    [row] = [row for row in rows if row["key"] == "a/é 3, x.avi"]
    assert (row["split1"], row["split2"]) == ("val", None)


def test_pandas_reads_parquet(cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    export_features(asked(cache, tmp_path / "out", "parquet"))
    frame = pandas.read_parquet(tmp_path / "out")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    check_rows([{**row, "embeddings": np.stack(row["embeddings"])} for row in rows], embeddings)


def test_datasets_reads_what_is_written_for_it(
    cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    export_features(asked(cache, tmp_path / "out", "datasets"))
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "hf"))
    check_rows(list(read["clips"]), embeddings)


def test_webdataset_reads_its_tar_files(cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray]) -> None:
    webdataset = pytest.importorskip("webdataset")
    export_features(asked(cache, tmp_path / "out", "webdataset"))
    tars = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(tars) == 3
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    rows = []
    for sample in samples:
        splits = dict(zip(("split1", "split2"), sample["json"]["splits"], strict=True))
        frames = len(sample["embeddings.npy"])
        rows.append(
            {
                **sample["json"],
                **splits,
                "frames": frames,
                "times": sample["times.npy"],
                "embeddings": sample["embeddings.npy"],
            }
        )
    check_rows(rows, embeddings)


@pytest.mark.parametrize("format", FEATURE_FORMATS)
def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(
    cache: Path, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format in ("parquet", "datasets"):
        pytest.importorskip("pyarrow")
    export_features(asked(cache, tmp_path / "whole", format))
    read, shards = clips.clips_of, []

    def stops(cache: FeatureCache, shard: int, view: str) -> Any:
        shards.append(shard)
        if len(shards) == 2:
            raise KeyboardInterrupt
        return read(cache, shard, view)

    with monkeypatch.context() as patched:
        patched.setattr("har_cache.exchange.export_features.clips_of", stops)
        with pytest.raises(KeyboardInterrupt):
            export_features(asked(cache, tmp_path / "out", format))
        assert export_features(asked(cache, tmp_path / "out", format)).written == 3
    assert shards == [0, 1, 1, 2]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert export_features(asked(cache, tmp_path / "out", format)).written == 0


def test_another_view_is_another_folder(cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray]) -> None:
    export_features(asked(cache, tmp_path / "out", view="flip"))
    assert np.array_equal(np.load(tmp_path / "out" / "b/2.avi.npy"), embeddings["b/2.avi"][1])
    with pytest.raises(HarCacheError, match=r"holds other features \(npy, view flip"):
        export_features(asked(cache, tmp_path / "out"))
    with pytest.raises(HarCacheError, match=r"--view full: .* has center, flip"):
        export_features(asked(cache, tmp_path / "out", view="full"))


def test_a_folder_that_holds_other_things_is_left_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(HarCacheError, match=r"holds other files \(mine.txt, ...\); choose an empty directory"):
        export_features(asked(cache, tmp_path))
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_of_a_cache_that_has_changed_all_is_written_anew(
    cache: Path, tmp_path: Path, embeddings: dict[str, np.ndarray]
) -> None:
    own = shutil.copytree(cache, tmp_path / "cache")
    export_features(asked(own, tmp_path / "out"))
    shutil.rmtree(own)
    write_cache(own, embeddings, subsets=dict.fromkeys(LENGTHS, (1,)), views=("center", "flip"))
    said = Lines()
    assert export_features(asked(own, tmp_path / "out"), said).written == 5
    assert "The cache has changed since: all files are written anew" in said.said
    assert (tmp_path / "out" / "clips.csv").read_text().splitlines()[0] == "path,label,source,split1"


def test_of_a_cache_without_timestamps_there_are_none(tmp_path: Path, embeddings: dict[str, np.ndarray]) -> None:
    write_cache(tmp_path / "cache", embeddings, views=("center", "flip"), schema="har-cache/1")
    export_features(asked(tmp_path / "cache", tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.times.npy"))
    assert len(list((tmp_path / "out").rglob("*.npy"))) == 5


def test_an_unknown_format_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--format csv: expected one of npy, parquet, webdataset, datasets"):
        export_features(replace(asked(cache, tmp_path / "out"), format="csv"))


def test_what_a_folder_is_of_stands_in_it(cache: Path, tmp_path: Path) -> None:
    export_features(asked(cache, tmp_path / "out"))
    told = json.loads((tmp_path / "out" / "_features.json").read_text())
    assert told["fingerprint"] == FeatureCache(cache).fingerprint
    assert (told["schema"], told["format"], told["view"]) == ("har-features/1", "npy", "center")
