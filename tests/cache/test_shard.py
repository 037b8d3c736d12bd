import io
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.cache.shard import ShardImage, copy_parts, to_image
from har_cache.errors import CacheError

from ..helpers.shards import forge, make_shard, replace

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def assert_equal(first, second):
    assert first.fingerprint == second.fingerprint
    assert first.keys == second.keys
    assert first.source_sha256 == second.source_sha256
    for name, dtype in (("embeddings", np.float16), ("offsets", np.int64), ("fps", np.float32)):
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == dtype
        assert np.array_equal(a, b)
    assert (first.times is None) == (second.times is None)
    if first.times is not None:
        assert first.times.dtype == np.float64
        assert np.array_equal(first.times, second.times, equal_nan=True)


def read(image):
    with ShardImage(image, "00000.h5") as opened:
        return opened.read()


def refusal(image):
    with pytest.raises(CacheError) as caught:
        read(image)
    assert str(caught.value).startswith("00000.h5: ")
    return str(caught.value)


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 40)), max_size=6, unique_by=lambda clip: clip[0]),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.booleans(),
)
@settings(max_examples=50)
def test_what_is_written_comes_back(clips, views, seed, dim, timed):
    shard = make_shard([n for _, n in clips], views, [key for key, _ in clips], seed, dim, timed)
    image = to_image(shard)
    assert_equal(read(image), shard)
    assert to_image(shard) == image


@pytest.mark.parametrize("frames", [0, 1, 255, 256, 257, 1000])
def test_clips_longer_and_shorter_than_a_chunk_come_back(frames):
    shard = make_shard([frames])
    assert_equal(read(to_image(shard)), shard)


def test_h5py_reads_the_same_as_the_fast_path(tmp_path):
    shard = make_shard()
    (tmp_path / "shard.h5").write_bytes(to_image(shard))
    with h5py.File(tmp_path / "shard.h5") as file:
        assert file.attrs["schema"] == "har-cache/2"
        assert file.attrs["fingerprint"] == shard.fingerprint
        assert set(file) == {"embeddings", "offsets", "keys", "fps", "source_sha256", "times"}
        assert np.array_equal(file["times"][()], shard.times)
        assert file["embeddings"].fletcher32
        assert file["embeddings"].dtype == np.float16
        assert np.array_equal(file["embeddings"][()], shard.embeddings)
        assert np.array_equal(file["offsets"][()], shard.offsets)
        assert [key.decode() for key in file["keys"][()]] == list(shard.keys)
        assert h5py.check_string_dtype(file["keys"].dtype).encoding == "utf-8"


def test_a_shard_in_which_every_clip_failed_is_a_shard():
    shard = make_shard([])
    restored = read(to_image(shard))
    assert restored.keys == ()
    assert restored.embeddings.shape == (2, 0, 256)
    assert restored.offsets.tolist() == [0]


def test_keys_of_any_script_come_back():
    keys = ("swing_baseball/-# [x]; & (1)!+~.avi", "прыжок/кадр.avi", "跳/跳ぶ.mp4", "e\u0301/\U0001f3c3.avi")
    shard = make_shard([1, 1, 1, 1], keys=keys)
    assert read(to_image(shard)).keys == keys


def test_values_come_back_bit_for_bit():
    shard = make_shard([8], views=1)
    special = [np.inf, -np.inf, np.nan, -0.0, np.finfo(np.float16).smallest_subnormal, np.finfo(np.float16).max, 1, 0]
    shard.embeddings[0, :, 0] = special
    assert read(to_image(shard)).embeddings.tobytes() == shard.embeddings.tobytes()


def test_nothing_but_the_content_is_in_the_bytes():
    first, second = make_shard(), make_shard()
    assert to_image(first) == to_image(second)
    assert to_image(first) != to_image(make_shard(seed=1))


def test_parts_fill_a_slice_of_a_larger_array():
    shard = make_shard()
    out = np.zeros((2, shard.embeddings.shape[1] + 10, 256), np.float16)
    with ShardImage(to_image(shard), "00000.h5") as image:
        copy_parts(image.parts(out[:, 5:-5]))
    assert np.array_equal(out[:, 5:-5], shard.embeddings)
    assert not out[:, :5].any()
    assert not out[:, -5:].any()


@pytest.mark.parametrize("image", [b"text", b"\x89HDF\r\n\x1a\n", bytes(4096)])
def test_what_is_no_hdf5_file_is_refused(image):
    assert refusal(image) == "00000.h5: is no HDF5 file"


def test_an_empty_file_is_refused():
    refusal(b"")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_shard_is_refused(kept):
    image = to_image(make_shard())
    refusal(image[: int(kept * len(image))])


def test_another_schema_is_refused_by_its_name():
    image = forge(lambda file: file.attrs.__setitem__("schema", "har-cache/3"))
    assert refusal(image) == "00000.h5: schema 'har-cache/3', this version reads har-cache/2 and har-cache/1"


def test_a_shard_without_timestamps_is_of_the_first_schema():
    with h5py.File(io.BytesIO(to_image(make_shard(timed=False)))) as file:
        assert file.attrs["schema"] == "har-cache/1"
        assert set(file) == {"embeddings", "offsets", "keys", "fps", "source_sha256"}


@pytest.mark.parametrize("times", [np.zeros(302), np.zeros(304), np.zeros(303, np.float32), np.zeros((303, 1))])
def test_times_that_are_not_one_for_each_frame_are_refused(times):
    assert "is no well-formed shard" in refusal(forge(replace("times", data=times)))


@pytest.mark.parametrize("name", ["embeddings", "offsets", "keys", "fps", "source_sha256", "times"])
def test_a_missing_array_is_named(name):
    assert f"{name} is a link, or missing" in refusal(forge(lambda file: file.__delitem__(name)))


@pytest.mark.parametrize("name", ["schema", "fingerprint"])
def test_a_missing_attribute_is_refused(name):
    refusal(forge(lambda file: file.attrs.__delitem__(name)))


@pytest.mark.parametrize("name", ["embeddings", "offsets", "keys"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_are_not_followed(tmp_path, name, kind):
    (tmp_path / "other.h5").write_bytes(to_image(make_shard()))

    def change(file):
        file.move(name, "moved")
        file[name] = h5py.ExternalLink(tmp_path / "other.h5", name) if kind == "external" else h5py.SoftLink("/moved")

    assert f"{name} is a link, or missing" in refusal(forge(change))


def test_data_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(10_000))
    change = replace("offsets", shape=4, dtype="<i8", external=[(tmp_path / "secret", 0, 32)])
    assert "offsets stores its data elsewhere" in refusal(forge(change))


def test_virtual_data_are_not_read(tmp_path):
    (tmp_path / "other.h5").write_bytes(to_image(make_shard()))

    def change(file):
        layout = h5py.VirtualLayout(shape=(4,), dtype="<i8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "offsets", shape=(4,))
        del file["offsets"]
        file.create_virtual_dataset("offsets", layout)

    assert "offsets stores its data elsewhere" in refusal(forge(change))


def test_a_group_in_place_of_an_array_is_refused():
    def change(file):
        del file["fps"]
        file.create_group("fps")

    assert "fps stores its data elsewhere" in refusal(forge(change))


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}])
def test_filters_are_refused(options):
    data = make_shard().embeddings
    assert "embeddings is filtered" in refusal(forge(replace("embeddings", data=data, chunks=(1, 256, 256), **options)))


@pytest.mark.parametrize("dtype", ["<f4", ">f2", "<i2", "<u2", "S2"])
def test_embeddings_of_another_type_are_refused(dtype):
    change = replace("embeddings", shape=(2, 303, 256), dtype=dtype, chunks=(1, 256, 256))
    assert "embeddings is" in refusal(forge(change))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("offsets", np.array([0, 3, 3, 303], "<i4")),
        ("offsets", np.array([[0, 3, 3, 303]], "<i8")),
        ("fps", np.zeros(3, "<f8")),
        ("keys", np.arange(3)),
        ("source_sha256", np.zeros(3, "<f4")),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(name, data):
    assert f"{name} is {data.dtype} with {data.ndim} dimensions" in refusal(forge(replace(name, data=data)))


def test_text_of_variable_length_is_refused():
    change = replace("keys", data=["a", "b", "c"], dtype=h5py.string_dtype())
    assert "keys is object" in refusal(forge(change))


def test_keys_that_are_not_utf8_are_refused():
    assert "no well-formed shard" in refusal(forge(replace("keys", data=np.array([b"a", b"\xff", b"c"], "S1"))))


@pytest.mark.parametrize("offsets", [[0, 3, 3, 302], [0, 3, 3, 304], [1, 3, 3, 303], [0, 5, 3, 303], [-3, 0, 3, 303]])
def test_offsets_that_do_not_cover_the_frames_are_refused(offsets):
    change = replace("offsets", data=np.array(offsets, "<i8"))
    assert "its offsets do not cover its frames" in refusal(forge(change))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("offsets", np.array([0, 3, 303], "<i8")),
        ("offsets", np.array([], "<i8")),
        ("fps", np.zeros(4, "<f4")),
        ("keys", np.array([b"a", b"b"], "S1")),
        ("source_sha256", np.array([b"a"] * 4, "S1")),
    ],
)
def test_arrays_of_different_lengths_are_refused(name, data):
    assert "do not belong together" in refusal(forge(replace(name, data=data)))


@pytest.mark.parametrize("chunks", [None, (2, 256, 256), (1, 256, 128)])
def test_embeddings_chunked_in_another_way_are_refused(chunks):
    image = forge(replace("embeddings", data=make_shard().embeddings, chunks=chunks))
    assert "not chunked by view" in refusal(image)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 303, 256),
        (1, 2**40, 256),
        (2**40, 2**40, 256),  # so many bytes that their number does not fit into 64 bits
        (2**24, 2**32, 256),  # exactly 2^64 values
    ],
)
def test_sizes_that_the_file_only_claims_are_refused(shape):
    change = replace("embeddings", shape=shape, dtype="<f2", chunks=(1, 256, 256))
    assert "and does not hold them" in refusal(forge(change))


def test_a_huge_index_that_the_file_only_claims_is_refused():
    change = replace("offsets", shape=2**40, dtype="<i8", chunks=(1024,))
    assert "offsets claims" in refusal(forge(change))


def test_an_array_without_views_is_refused():
    def change(file):
        replace("embeddings", shape=(0, 2**60, 256), dtype="<f2", chunks=(1, 256, 256), maxshape=(None,) * 3)(file)
        replace("offsets", data=np.array([0, 3, 3, 2**60], "<i8"))(file)

    assert "do not belong together" in refusal(forge(change))


def test_a_chunk_that_was_never_written_is_refused():
    # The other chunks are padded, so that they hold more bytes than the array needs.
    def change(file):
        del file["embeddings"]
        data = file.create_dataset("embeddings", shape=(2, 257, 256), dtype="<f2", chunks=(1, 256, 256))
        data[0] = 1
        data[1, :256] = 1
        replace("offsets", data=np.array([0, 3, 3, 257], "<i8"))(file)

    assert "lacks some of its embeddings" in refusal(forge(change))


@pytest.mark.parametrize("address", [2**40, 2**63 + 1])
def test_a_chunk_outside_the_file_is_refused(address):
    image = to_image(make_shard())
    with h5py.File.in_memory(image) as file:
        begin = struct.pack("<Q", file["embeddings"].id.get_chunk_info(1).byte_offset)
    assert image.count(begin) == 1
    assert "no well-formed shard" in refusal(image.replace(begin, struct.pack("<Q", address)))
