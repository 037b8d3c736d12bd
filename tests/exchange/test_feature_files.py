from pathlib import Path

import numpy as np
import pytest

from har_cache.errors import ClipError, DataError
from har_cache.exchange.feature_files import FeatureFiles, clip_of, read_features

ONES = np.ones((3, 4), np.float32)


def saved(path: Path, array: np.ndarray = ONES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


@pytest.mark.parametrize("name", ["a/1.avi.npy", "a/1.npy", "1.avi.npy", "1.npy"])
def test_a_clip_s_file_is_found_wherever_other_tools_put_it(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    saved(tmp_path / "b" / "12.npy")
    assert FeatureFiles(tmp_path).find("a/1.avi") == path
    assert FeatureFiles(tmp_path).find("a/2.avi") is None


def test_files_in_the_clip_s_own_folder_come_first(tmp_path: Path) -> None:
    saved(tmp_path / "1.npy")
    assert FeatureFiles(tmp_path).find("a/1.avi") == tmp_path / "1.npy"
    path = saved(tmp_path / "a" / "1.npy")
    assert FeatureFiles(tmp_path).find("a/1.avi") == path


def test_files_of_video_features_have_a_suffix_and_their_times_beside_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "1_resnet.npy")
    np.save(tmp_path / "1_fps.npy", np.array(25.0))
    np.save(tmp_path / "1_timestamps_ms.npy", np.array([0.0, 40.0, 80.0]))
    files = FeatureFiles(tmp_path, "_resnet")
    assert files.find("a/1.mp4") == path
    assert FeatureFiles(tmp_path).others("a/1.mp4") == "; there is 1_resnet.npy: pass --suffix _resnet"
    features = read_features(path, "_resnet")
    assert features.fps == 25 and features.times.tolist() == [0, 0.04, 0.08]


def test_times_are_counted_where_no_file_says_when(tmp_path: Path) -> None:
    path = saved(tmp_path / "1.npy")
    assert read_features(path, fps=2).times.tolist() == [0, 0.5, 1]
    assert np.isnan(read_features(path).times).all() and read_features(path).fps == 0


def test_an_npz_holds_one_array_or_one_that_is_called_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "1.npz", x=ONES)
    np.savez(tmp_path / "2.npz", x=np.zeros(2), features=ONES)
    np.savez(tmp_path / "3.npz", x=np.zeros(2), y=ONES)
    assert read_features(tmp_path / "1.npz").embeddings.shape == (3, 4)
    assert read_features(tmp_path / "2.npz").embeddings.shape == (3, 4)
    with pytest.raises(ClipError, match="arrays x, y: expected one, or one called features or embeddings"):
        read_features(tmp_path / "3.npz")


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.ones(4), r"shape \(4,\): expected \(frames, dim\)"),
        (np.ones((1, 4, 7, 7)), r"shape \(1, 4, 7, 7\)"),
        (np.ones((0, 4)), r"shape \(0, 4\)"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), "a NaN or an infinity in row 1"),
        (np.array([[np.inf]]), "a NaN or an infinity in row 0"),
        (np.array([[70000.0]]), "numbers up to 7e[+]04, more than float16 holds"),
        (np.array([["x"]]), "numbers: expected floats"),
        (np.array([[None]]), "damaged, or no file of NumPy without objects in it"),
    ],
)
def test_what_is_no_table_of_finite_numbers_is_refused(tmp_path: Path, array: np.ndarray, why: str) -> None:
    with pytest.raises(ClipError, match=why):
        read_features(saved(tmp_path / "1.npy", array))


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x03\x04", b"text"])
@pytest.mark.parametrize("name", ["1.npy", "1.npz"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClipError, match="damaged"):
        read_features(tmp_path / name)


def test_times_of_another_number_of_frames_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "1.npy")
    np.save(tmp_path / "1.times.npy", np.zeros(2))
    with pytest.raises(ClipError, match=r"1\.times\.npy has 2 times for 3 frames"):
        read_features(path)


def test_a_folder_without_features_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "1_fps.npy", np.zeros(2))
    with pytest.raises(DataError, match=r"holds no \.npy or \.npz file"):
        FeatureFiles(tmp_path)


@pytest.mark.parametrize(
    ("path", "clip"), [("a/1.avi", "a/1.avi"), ("a/1.avi.npy", "a/1.avi"), ("1.npz", "1"), ("1.NPY", "1")]
)
def test_a_list_may_name_videos_or_files_of_features(path: str, clip: str) -> None:
    assert clip_of(path) == clip
