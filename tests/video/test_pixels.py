import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from har_cache.video import pixels
from har_cache.video.decode import VideoReader
from har_cache.video.pixels import Layout, Pixels, Storage, from_table, rgb_converter, rgb_table

from ..helpers.shared import VIDEOS
from ..helpers.videos import moving_frames, write_video

WITH_TABLE = [kind for kind in Pixels if kind != Pixels.RGB]
# FFmpeg: matrix (1: BT.709, 2: unspecified, 5, 6: BT.601, 9: BT.2020), range (0: unspecified, 1: limited, 2: full).
TAGS = {
    Pixels.BT601: [(2, 0), (2, 1), (5, 1), (6, 0)],
    Pixels.BT601_FULL: [(2, 2), (5, 2)],
    Pixels.BT709: [(1, 0), (1, 1)],
}
NO_TABLE = [(1, 2), (9, 1), (7, 1), (4, 1)]


@pytest.fixture(scope="module")
def tables():
    return {kind: rgb_table(kind) for kind in WITH_TABLE}


def random_frame(height, width, tags=(2, 0), name="yuv420p", seed=0):
    frame = av.VideoFrame(width, height, name)
    rng = np.random.default_rng(seed)
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    frame.colorspace, frame.color_range = tags
    return frame


def restored(stored, tables):
    layout, planes = stored
    assert [plane.shape for plane in planes] == list(layout.planes)
    assert sum(plane.size for plane in planes) == layout.frame_bytes
    if layout.pixels == Pixels.RGB:
        return planes[0].reshape(layout.height, layout.width, 3)
    return from_table(planes, tables[layout.pixels])


@given(
    height=st.integers(1, 70), width=st.integers(1, 70), kind=st.sampled_from(WITH_TABLE), data=st.data(),
    seed=st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_stored_frames_of_any_size_are_the_rgb_of_ffmpegs_scaler(tables, height, width, kind, data, seed):
    frame = random_frame(height, width, data.draw(st.sampled_from(TAGS[kind])), seed=seed)
    stored = Storage(tables)(frame)
    assert np.array_equal(restored(stored, tables), rgb_converter()(frame))
    if height % 2:
        assert stored[0].pixels == Pixels.RGB  # the scaler interpolates there


@pytest.mark.parametrize("kind", WITH_TABLE)
@pytest.mark.parametrize("size", [(2, 2), (120, 176), (240, 320), (240, 427), (576, 720), (720, 1281)])
def test_even_heights_go_as_planes_half_as_large(tables, kind, size):
    for tags in TAGS[kind]:
        frame = random_frame(*size, tags)
        layout, planes = Storage(tables)(frame)
        assert layout == Layout(*size, kind)
        assert layout.frame_bytes <= 0.5 * Layout(*size).frame_bytes + 2 * sum(size)
        assert np.array_equal(from_table(planes, tables[kind]), rgb_converter()(frame))


def test_a_full_range_name_means_full_range(tables):
    frame = random_frame(48, 64, (2, 0), "yuvj420p")
    stored = Storage(tables)(frame)
    assert stored[0].pixels == Pixels.BT601_FULL
    assert np.array_equal(restored(stored, tables), rgb_converter()(frame))


@pytest.mark.parametrize("tags", NO_TABLE)
def test_what_has_no_table_goes_as_rgb(tables, tags):
    frame = random_frame(48, 64, tags)
    stored = Storage(tables)(frame)
    assert stored[0] == Layout(48, 64)
    assert np.array_equal(restored(stored, tables), rgb_converter()(frame))


@pytest.mark.parametrize("name", ["yuv422p", "yuv444p", "gray", "rgb24", "bgr24", "yuv420p10le"])
def test_other_formats_go_as_rgb(tables, name):
    frame = av.VideoFrame.from_ndarray(moving_frames(1, 64, 48)[0], "rgb24").reformat(format=name)
    stored = Storage(tables)(frame)
    assert stored[0] == Layout(48, 64)
    assert np.array_equal(restored(stored, tables), rgb_converter()(frame))


def test_a_table_that_gives_other_pixels_is_not_used(tables):
    wrong = {**tables, Pixels.BT601: tables[Pixels.BT709]}
    assert Storage(wrong)(random_frame(48, 64))[0].pixels == Pixels.RGB
    assert Storage({})(random_frame(48, 64))[0].pixels == Pixels.RGB


def test_odd_heights_go_as_rgb_also_after_a_black_frame(tables):
    """In which no pixel tells."""
    storage, wanted = Storage(tables), rgb_converter()
    black = av.VideoFrame(64, 49, "yuv420p")
    for plane, value in zip(black.planes, (0, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    for frame in (black, random_frame(49, 64)):
        stored = storage(frame)
        assert stored[0] == Layout(49, 64) and np.array_equal(restored(stored, tables), wanted(frame))


def test_interlaced_frames_go_as_rgb(tmp_path, tables):
    frames = moving_frames(12, 64, 48)
    path = write_video(tmp_path / "a.mpg", frames, "mpeg2video", options={"flags": "+ildct+ilme"})
    with VideoReader(path) as video, VideoReader(path) as again:
        stored = [(layout, restored((layout, planes), tables)) for layout, planes in video.stored(tables)]
        assert np.array_equal([frame for _, frame in stored], np.concatenate(list(again.chunks())))
    assert {layout.pixels for layout, _ in stored} == {Pixels.RGB}


def test_the_kind_may_change_within_a_clip(tables):
    storage, wanted = Storage(tables), rgb_converter()
    for tags in [(2, 0), (2, 0), (1, 1), (9, 1), (2, 2), (2, 0)]:
        frame = random_frame(48, 64, tags)
        assert np.array_equal(restored(storage(frame), tables), wanted(frame))


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "kind"),
    [
        ("a.avi", "mpeg4", "yuv420p", Pixels.BT601),
        ("b.mp4", "libx264", "yuv420p", Pixels.BT601),
        ("c.mkv", "libx264", "yuv444p", Pixels.RGB),
        ("d.avi", "mjpeg", "yuvj420p", Pixels.BT601_FULL),
    ],
)
def test_a_clips_stored_frames_are_those_of_its_chunks(tmp_path, tables, name, codec, pixel_format, kind):
    path = write_video(tmp_path / name, moving_frames(20, 66, 50), codec, pixel_format)
    with VideoReader(path) as video, VideoReader(path) as again:
        expected = np.concatenate(list(video.chunks()))
        stored = [(layout, restored((layout, planes), tables)) for layout, planes in again.stored(tables)]
    assert {layout.pixels for layout, _ in stored} == {kind}
    assert np.array_equal([frame for _, frame in stored], expected)


@pytest.mark.parametrize("path", sorted(VIDEOS.rglob("*.avi")), ids=lambda path: path.parent.name)
def test_real_clips_go_as_planes_without_a_wrong_pixel(path, tables):
    with VideoReader(path) as video, VideoReader(path) as again:
        frames = 0
        for (layout, planes), chunk in zip(video.stored(tables), again.chunks(1), strict=True):
            assert layout.pixels == Pixels.BT601
            assert np.array_equal(from_table(planes, tables[layout.pixels]), chunk[0])
            frames += 1
    assert frames > 10


def test_a_table_holds_every_colour_once(tables):
    table = tables[Pixels.BT601]
    assert table.shape == (pixels.TABLE_ENTRIES,) and table.dtype == np.uint32
    assert table[16 | 128 << 8 | 128 << 16] == 0 and table[235 | 128 << 8 | 128 << 16] == 0xFFFFFF
    assert not (table >> 24).any()
