import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.errors import ClipError, HarCacheError
from har_cache.video import decode as video
from har_cache.video.decode import VideoReader, read_frames, resolve_decoder, spread

from ..helpers.shared import VIDEOS as REAL
from ..helpers.videos import moving_frames, probe, read_chunks, reference_frames, remux, write_video

REAL_COUNTS = {"climb": 242, "golf": 89, "punch": 172, "shoot_bow": 81, "swing_baseball": 140}

both_decoders = pytest.mark.parametrize("decoder", ["decord", "pyav"])


@pytest.fixture(autouse=True)
def _needs_decord(request):
    if "decord" in request.node.name:
        pytest.importorskip("decord")


def read(path, decoder="auto", size=16):
    chunks = list(read_chunks(path, decoder, size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size
    assert all(chunk.dtype == np.uint8 and chunk.flags.c_contiguous for chunk in chunks)
    return np.concatenate(chunks)


def reason(path, decoder="auto"):
    with pytest.raises(ClipError) as caught:
        list(read_chunks(path, decoder))
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return str(caught.value)


B_FRAMES = {"bf": "2", "g": "12"}


@both_decoders
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.avi", "mpeg4", {}),
        ("clip.avi", "mpeg4", B_FRAMES),
        ("clip.avi", "mpeg4", {"flags": "+ildct+ilme"}),
        ("clip.avi", "mjpeg", {}),
        ("clip.avi", "libx264", B_FRAMES),
        ("clip.mp4", "libx264", B_FRAMES),
        ("clip.mp4", "libx264", {"x264-params": "tff=1"}),
        ("clip.mov", "libx264", {"x264-params": "open-gop=1:keyint=6:bframes=3"}),
        ("clip.mp4", "mpeg4", {}),
        ("clip.mkv", "libx264", B_FRAMES),
        ("clip.mkv", "mpeg4", {"qmin": "31"}),
        ("clip.mp4", "libx265", {"x265-params": "log-level=none"}),
        ("clip.mp4", "libsvtav1", {"preset": "12"}),
        ("clip.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("clip.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}),
        ("clip.mpg", "mpeg2video", B_FRAMES),
        ("clip.ts", "libx264", B_FRAMES),
        ("clip.wmv", "wmv1", {}),
        ("clip.flv", "flv", {}),
    ],
)
def test_every_frame_once_from_every_container(tmp_path, decoder, name, codec, options):
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, moving_frames(21), codec, pixel_format, options)
    frames = read(path, decoder)
    assert len(frames) == 21
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.webm", "libvpx")])
@pytest.mark.parametrize(
    "size",
    [(424, 240), (560, 240), (340, 256), (240, 320), (162, 122), (161, 121), (320, 241), (16, 16)],
    ids=str,
)
def test_odd_sizes(tmp_path, decoder, name, codec, size):
    if codec == "libx264" and size[1] % 2:
        pytest.skip("not possible in 4:2:0 H.264")
    path = write_video(tmp_path / name, moving_frames(3, *size), codec)
    frames = read(path, decoder)
    assert frames.shape == (3, size[1], size[0], 3)
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "yuv444p", "yuvj420p"])
def test_other_pixel_formats(tmp_path, decoder, pixel_format):
    path = write_video(tmp_path / "clip.mp4", moving_frames(5), "libx264", pixel_format)
    np.testing.assert_array_equal(read(path, decoder), reference_frames(path))


@both_decoders
def test_rotation_tags_are_not_applied(tmp_path, decoder):
    path = write_video(tmp_path / "clip.mp4", moving_frames(5), "libx264", rotation=90)
    frames = read(path, decoder)
    assert frames.shape[1:] == (120, 160, 3)
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
@pytest.mark.parametrize("name", ["a#1.mp4", "[a].mp4", "a;b&c.mp4", "Hit!!!_300+.mp4", "(HQ)_~a b%20'\".mp4"])
def test_names_are_only_names(tmp_path, decoder, name):
    path = write_video(tmp_path / name, moving_frames(3), "libx264")
    assert len(read(path, decoder)) == 3


@both_decoders
@pytest.mark.parametrize("name", ["-i.mp4", "-", "concat:a.mp4", "file:a.mp4", "~a.mp4"])
def test_relative_names_are_no_options_or_protocols(tmp_path, monkeypatch, decoder, name):
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), moving_frames(3), "libx264", container="mp4")
    assert len(read(Path(name), decoder)) == 3


@both_decoders
def test_metadata_that_is_not_utf8(tmp_path, decoder):
    path = write_video(tmp_path / "clip.avi", moving_frames(3), title="PLACEHOLDER")
    path.write_bytes(path.read_bytes().replace(b"PLACEHOLDER", b"\xe9\xff\xfe\x80HOLDER\xc3"))
    assert len(read(path, decoder)) == 3


@both_decoders
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "libx264")])
@pytest.mark.parametrize(("count", "still"), [(1, 0), (2, 1), (16, 0), (20, 5), (33, 32)])
def test_repeated_last_frames_are_kept(tmp_path, decoder, name, codec, count, still):
    path = write_video(tmp_path / name, moving_frames(count, still=still), codec)
    frames = read(path, decoder)
    assert len(frames) == count
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
@pytest.mark.parametrize("size", [1, 7, 30, 100])
def test_chunks_of_any_size(tmp_path, decoder, size):
    path = write_video(tmp_path / "clip.mp4", moving_frames(30), "libx264")
    np.testing.assert_array_equal(read(path, decoder, size), reference_frames(path))


@both_decoders
@pytest.mark.parametrize("hidden", [5, 25, 50])
def test_frames_hidden_by_an_edit_list(tmp_path, decoder, hidden):
    whole = write_video(tmp_path / "whole.mp4", moving_frames(60), "libx264", options={"g": "20", "bf": "2"})
    path = remux(whole, tmp_path / "cut.mp4", shift=hidden / 30)
    frames = read(path, decoder)
    assert probe(path).declared_frames == 60
    assert len(frames) == 60 - hidden
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
def test_longer_sound_is_no_truncation(tmp_path, decoder):
    for name in ("clip.mkv", "clip.mp4"):
        path = write_video(tmp_path / name, moving_frames(10), "libx264", seconds_of_audio=3.0)
        assert len(read(path, decoder)) == 10


@both_decoders
def test_frames_before_the_first_key_frame_are_no_frames(tmp_path, decoder):
    whole = write_video(tmp_path / "whole.mkv", moving_frames(40), "libx264", options={"g": "10", "bf": "0"})
    path = remux(whole, tmp_path / "late.mkv", skip=frozenset(range(3)))
    np.testing.assert_array_equal(read(path, decoder), reference_frames(path))


@both_decoders
def test_damage_inside(tmp_path, decoder):
    path = write_video(tmp_path / "clip.mp4", moving_frames(60), "libx264", options={"g": "10"})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path, decoder), read(path, "pyav"))


@pytest.mark.parametrize(
    ("name", "codec", "used"),
    [
        ("a.mp4", "libx264", True),
        ("a.webm", "libvpx-vp9", True),
        ("a.webm", "libvpx", False),
        ("a.avi", "mpeg4", False),
    ],
)
def test_decord_reads_what_every_decoder_decodes_alike(tmp_path, monkeypatch, name, codec, used):
    decord, calls = pytest.importorskip("decord"), []
    real = decord.VideoReader.next
    monkeypatch.setattr(decord.VideoReader, "next", lambda self: (calls.append(0), real(self))[1])
    read(write_video(tmp_path / name, moving_frames(3), codec), "decord")
    assert len(calls) == (3 if used else 0)


@pytest.mark.parametrize("good", [0, 5, 8, 12, 20])
def test_pyav_goes_on_where_decord_fails(tmp_path, monkeypatch, good):
    decord = pytest.importorskip("decord")
    path = write_video(tmp_path / "clip.mp4", moving_frames(21), "libx264")

    class Failing(decord.VideoReader):
        left = good

        def next(self):
            if not self.left:
                raise decord.DECORDError("broken")
            self.left -= 1
            return super().next()

    monkeypatch.setattr(decord, "VideoReader", Failing)
    np.testing.assert_array_equal(read(path, "decord", 4), reference_frames(path))


@both_decoders
@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "libx264"])
def test_frames_have_the_size_that_the_codec_says_and_not_the_container(tmp_path, decoder, codec):
    path = write_video(tmp_path / "a.mkv", moving_frames(20, 96, 64), codec)
    sizes = b"\xb0\x81\x60\xba\x81\x40"  # Matroska's PixelWidth and PixelHeight
    assert path.read_bytes().count(sizes) == 1
    path.write_bytes(path.read_bytes().replace(sizes, b"\xb0\x81\x60\xba\x81\x02"))
    frames = read(path, decoder)
    assert frames.shape == (20, 64, 96, 3)
    np.testing.assert_array_equal(frames, reference_frames(path))


@both_decoders
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_truncated(tmp_path, decoder, name, codec):
    path = write_video(tmp_path / name, moving_frames(60), codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason(path, decoder).startswith("truncated: ")
    path.write_bytes(content[: int(len(content) * 0.95)])
    assert 54 <= len(read(path, decoder)) <= 60


@both_decoders
def test_truncated_mp4(tmp_path, decoder):
    last = write_video(tmp_path / "last.mp4", moving_frames(60), "libx264")
    first = write_video(tmp_path / "first.mp4", moving_frames(60), "libx264", mux_options={"movflags": "faststart"})
    for path in (last, first):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    assert reason(last, decoder) == "truncated or damaged: the container cannot be read"
    assert reason(first, decoder).startswith("truncated: ")
    assert reason(first, decoder).endswith(" of 60 declared frames decode")


def test_changing_frame_size(tmp_path):
    parts = [
        write_video(tmp_path / f"{width}.mpg", moving_frames(4, width), "mpeg2video", options={"bf": "0"})
        for width in (160, 192)
    ]
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert reason(path).startswith("frame size changes from 160x120 to 192x120 at frame ")


def test_no_frame_decodes(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(8))
    content = path.read_bytes()
    start = content.index(b"movi") + 4
    end = content.index(b"idx1")
    path.write_bytes(content[:start] + content[start:end].replace(b"\0\0\1\xb6", b"\0\0\0\0") + content[end:])
    assert reason(path) == "no frame decodes"


def test_out_of_memory(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.avi", moving_frames(8))

    def empty(*args):
        raise MemoryError

    monkeypatch.setattr(video.np, "empty", empty)
    assert reason(path, "pyav") == "out of memory while decoding"


def test_a_reader_given_up_halfway_closes_its_file(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving_frames(40), "libx264")
    for decoder in ("pyav", "auto"):
        chunks = read_chunks(path, decoder, 4)
        next(chunks)
        chunks.close()
        gc.collect()
        links = [fd.resolve() for fd in Path("/proc/self/fd").glob("*")] if Path("/proc/self/fd").exists() else []
        assert path not in links


def test_resolve_decoder(monkeypatch):
    assert resolve_decoder("pyav") == "pyav"
    with pytest.raises(HarCacheError, match=r"'opencv'.*auto, decord, pyav"):
        resolve_decoder("opencv")
    monkeypatch.setitem(sys.modules, "decord", None)
    assert resolve_decoder("auto") == "pyav"
    with pytest.raises(HarCacheError, match="--decoder pyav"):
        resolve_decoder("decord")


def test_auto_is_the_reference_even_where_decord_is_installed():
    pytest.importorskip("decord")
    assert resolve_decoder("auto") == "pyav"
    assert resolve_decoder("decord") == "decord"


def test_importing_loads_no_decoder():
    code = "import sys, har_cache.video.decode; sys.exit(bool({'av', 'decord'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@both_decoders
@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize("clip", sorted(REAL_COUNTS))
def test_real_clips(decoder, clip):
    [path] = (REAL / clip).iterdir()
    frames = read(path, decoder)
    assert len(frames) == REAL_COUNTS[clip]
    np.testing.assert_array_equal(frames, reference_frames(path))
    assert probe(path).declared_frames == REAL_COUNTS[clip] + 1


def test_the_frames_asked_for_are_those_of_all_frames(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(30))
    everything = reference_frames(path)
    for numbers in ([0], [29], [3, 4, 17, 29], list(range(30)), []):
        found = list(read_frames(path, numbers))
        assert len(found) == len(numbers)
        assert all((a == everything[i]).all() for a, i in zip(found, numbers, strict=True))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
def test_the_frames_asked_for_of_real_clips():
    for path in sorted(REAL.glob("*/*.avi")):
        numbers = [1, 40, 41, 80]
        expected = reference_frames(path)[numbers]
        assert all((a == b).all() for a, b in zip(read_frames(path, numbers), expected, strict=True))


def test_nothing_after_the_last_frame_asked_for_is_decoded(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(30))
    seen = []
    assert len(list(read_frames(path, [2, 9], lambda: seen.append(0)))) == 2
    assert len(seen) == 10


def test_a_clip_that_ends_before_is_told(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(10))
    with pytest.raises(ClipError, match=r"end before number 12"):
        list(read_frames(path, [9, 12]))
    (tmp_path / "empty.avi").touch()
    with pytest.raises(ClipError):
        list(read_frames(tmp_path / "empty.avi", [0]))


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_spread_is_as_many_distinct_frames_as_asked_for(frames, count):
    chosen = spread(frames, count)
    assert len(set(chosen)) == len(chosen) == min(count, frames)
    assert chosen == sorted(chosen) and chosen[0] >= 0 and chosen[-1] < frames


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    path, opened = write_video(tmp_path / "clip.avi", moving_frames(30)), []
    real = video.opened
    monkeypatch.setattr(video, "opened", lambda path: (opened.append(path), real(path))[1])
    seen = []
    with VideoReader(path, on_frame=lambda: seen.append(0)) as reader:
        assert reader.info == probe(path)
        assert sum(len(chunk) for chunk in reader.chunks(7)) == len(seen) == 30
    assert opened == [path]


def test_frames_that_are_not_there_are_left_out(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(10))
    with VideoReader(path) as reader:
        assert len(list(reader.frames([3, 9, 12]))) == 2
    with VideoReader(path) as reader:
        assert reader.count(4) == 4
    with VideoReader(path) as reader:
        assert reader.count(40) == 10
