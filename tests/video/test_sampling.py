from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.errors import ClipError, HarCacheError
from har_cache.video.decode import VideoReader, read_frames
from har_cache.video.sampling import Sampling

from ..helpers.shared import VIDEOS
from ..helpers.videos import RATE, moving_frames, remux, write_video

REAL_CLIPS = sorted(VIDEOS.glob("*/*.avi"))

_ROUNDING = 1e-6  # of FFmpeg's times, as floats: 0.8 s after the first frame may be less than 4 / 5
TIMES = st.lists(st.fractions(0, 10, max_denominator=1000), min_size=1, max_size=60, unique=True).map(sorted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def steady(folder):
    return write_video(folder / "steady.mp4", moving_frames(40), "h264", options={"bf": "2"})


@pytest.fixture(scope="module")
def clips(folder, steady):
    """Clips whose frames are not shown at number / rate: by what is odd with them."""
    return {
        "variable": uneven(folder / "variable.mkv", [0, 10, 15, 40, 90, 91, 200, 310, 320, 420, 1000, 1010, 1020]),
        "late": remux(steady, folder / "late.mkv", shift=-7.5),
        "stream": remux(steady, folder / "late.ts", shift=-1.0),
        "edited": edited(steady, folder / "edited.mp4"),
    }


def uneven(path: Path, milliseconds: list[int]) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width, stream.codec_context.time_base = 120, 160, Fraction(1, 1000)
        for frame, shown in zip(moving_frames(len(milliseconds)), milliseconds, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = shown, Fraction(1, 1000)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def edited(source: Path, target: Path) -> Path:
    """With an edit list that begins at the sixth frame: by timestamps below 0."""
    return remux(source, target, shift=5 / RATE)


def shown(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


def read(path: Path, sampling: Sampling = Sampling()) -> tuple[np.ndarray, list[float]]:
    with VideoReader(path, sampling=sampling) as video:
        return np.concatenate(list(video.chunks())), video.times


def selected(path: Path, fps: float) -> list[float]:
    """The times of the frames that FFmpeg's own filter takes: the first in each part of a second."""
    now, before = (f"floor(({time}-start_t)*{fps}+{_ROUNDING})" for time in ("t", "prev_selected_t"))
    with av.open(str(path)) as file:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=file.streams.video[0])
        chosen = graph.add("select", f"isnan(prev_selected_t)+gt({now},{before})".replace(",", "\\,"))
        source.link_to(chosen)
        chosen.link_to(sink := graph.add("buffersink"))
        graph.configure()
        found = []
        for frame in file.decode(video=0):
            source.push(frame)
            try:
                while True:
                    found.append(sink.pull().time)
            except (BlockingIOError, EOFError):
                pass
    return found


@pytest.mark.parametrize("name", ["variable", "late", "stream", "edited"])
def test_times_are_those_of_pyav(clips, name):
    times = read(clips[name])[1]
    assert times == shown(clips[name])
    assert name == "edited" or not np.allclose(times, np.arange(len(times)) / RATE)


def test_what_an_edit_list_hides_has_no_time(clips, steady):
    assert read(clips["edited"])[1] == pytest.approx(np.arange(35) / RATE)
    assert np.array_equal(read(clips["edited"])[0], read(steady)[0][5:])


def test_b_frames_have_the_time_at_which_they_are_shown(steady):
    assert read(steady)[1] == pytest.approx(np.arange(40) / RATE)


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"bf": "2"}), ("h264", {"bf": "2"}), ("mjpeg", {})])
def test_in_an_avi_frames_follow_each_other_at_its_rate(tmp_path, codec, options):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / "clip.avi", moving_frames(20), codec, pixels, options)
    assert read(path)[1] == pytest.approx(np.arange(20) / RATE)


@pytest.mark.skipif(not REAL_CLIPS, reason="needs the real clips")
def test_real_clips_have_times_that_rise():
    for path in REAL_CLIPS:
        with VideoReader(path) as video:
            count = sum(map(len, video.chunks()))
            assert video.times == pytest.approx(np.arange(count) / video.info.fps, abs=1.5 / video.info.fps)
            assert (np.diff(video.times) > 0).all()


@pytest.mark.parametrize("name", ["variable", "late", "stream", "edited", "steady"])
@pytest.mark.parametrize("fps", [5, 12.5])
def test_frames_by_time_are_those_that_ffmpeg_selects(clips, steady, name, fps):
    path = {**clips, "steady": steady}[name]
    times = read(path, Sampling(fps=fps))[1]
    assert times == selected(path, fps)
    assert 1 < len(times) < len(shown(path))


@pytest.mark.parametrize("sampling", [Sampling(3), Sampling(fps=7)])
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_sampled_frames_are_frames_of_the_whole(steady, sampling, decoder):
    whole, times = read(steady)
    with VideoReader(steady, decoder, sampling=sampling) as video:
        frames = np.concatenate(list(video.chunks()))
    places = [times.index(time) for time in video.times]
    assert places == list(range(0, 40, 3)) or sampling.fps
    assert np.array_equal(frames, whole[places])
    numbers = [0, 2, 5]
    assert np.array_equal(list(read_frames(steady, numbers, sampling=sampling)), frames[numbers])
    with pytest.raises(ClipError, match="its frames end before number 30"):
        list(read_frames(steady, [0, 30], sampling=sampling))


def test_a_truncated_clip_is_told_by_all_of_its_frames(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(40), "mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ClipError, match="truncated"):
        read(path, Sampling(2))


@given(TIMES, st.floats(0.1, 100, allow_nan=False))
def test_no_part_of_a_second_has_two_frames_and_none_that_has_one_is_left_out(times, fps):
    takes = Sampling(fps=fps).chooser()
    rate = Fraction(repr(fps))
    parts = [(time - times[0]) * rate // 1 for time in times]
    taken = [part for time, part in zip(times, parts, strict=True) if takes(time)]
    assert taken == sorted(set(parts))


@given(st.integers(1, 20), st.integers(1, 100))
def test_every_nth_frame_is_taken_from_the_first_on(every, count):
    takes = Sampling(every).chooser()
    assert [i for i in range(count) if takes(None)] == list(range(0, count, every))


def test_without_any_time_frames_cannot_be_taken_by_it():
    with pytest.raises(ClipError, match=r"neither timestamps nor a frame rate: .*--every"):
        Sampling(fps=5).chooser()(None)


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        (Sampling(), None),
        (Sampling(2), "every 2"),
        (Sampling(fps=5), "5 fps"),
        (Sampling(fps=23.976023976), "23.976023976 fps"),
        (Sampling(fps=1e-05), "1e-05 fps"),
    ],
)
def test_a_sampling_is_read_back_from_its_words(sampling, text):
    assert sampling.text == text
    assert Sampling.parse(text) == sampling


@pytest.mark.parametrize(
    "text", ["", "every 1", "every 0", "every", "5", "0 fps", "5.0 fps", "nan fps", "all", "05 fps"]
)
def test_other_words_are_refused(text):
    with pytest.raises(HarCacheError, match="expected 'every N' or 'F fps'"):
        Sampling.parse(text)
