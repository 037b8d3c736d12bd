import os

import av
import pytest

from har_cache.errors import ClipError
from har_cache.video.container import VideoInfo, declared_bytes, demuxer_of, read_head

from ..helpers.videos import moving_frames, probe, write_audio, write_video


def reason(path):
    with pytest.raises(ClipError) as caught:
        probe(path)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return str(caught.value)


def test_probe(tmp_path):
    avi = write_video(tmp_path / "clip.avi", moving_frames(7))
    assert probe(avi) == VideoInfo(160, 120, 30.0, 7, "mpeg4", "yuv420p", "avi", 1)
    mkv = write_video(tmp_path / "clip.mkv", moving_frames(7), "libx264")
    assert probe(mkv) == VideoInfo(160, 120, 30.0, None, "h264", "yuv420p", "matroska", 1)


@pytest.mark.parametrize(
    ("name", "codec", "demuxer"),
    [
        ("a.avi", "mpeg4", "avi"),
        ("a.mp4", "libx264", "mov"),
        ("a.mov", "mpeg4", "mov"),
        ("a.mkv", "libx264", "matroska"),
        ("a.webm", "libvpx", "matroska"),
        ("a.mpg", "mpeg1video", "mpeg"),
        ("a.ts", "mpeg2video", "mpegts"),
        ("a.wmv", "wmv2", "asf"),
        ("a.flv", "flv", "flv"),
        ("a.ogv", "libvpx", "ogg"),
    ],
)
def test_the_content_counts_and_not_the_name(tmp_path, name, codec, demuxer):
    path = write_video(tmp_path / name, moving_frames(12), codec).rename(tmp_path / "clip.txt")
    assert demuxer_of(read_head(path)) == demuxer
    assert probe(path).width == 160


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"hello\n", "a text file, not a video"),
        ("grüße\n".encode() * 400, "a text file, not a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "a playlist, not a video"),
        (b"\xef\xbb\xbf\n#EXTM3U\n", "a playlist, not a video"),
        (b"ffconcat version 1.0\nfile other.avi\n", "a playlist, not a video"),
        (bytes(5000), "not a video container (AVI, MP4, MOV, MKV, WebM, MPEG, TS, ASF, FLV, Ogg)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not a video container"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "not a video container"),
        (b"RIFF\xff\xff\0\0AVI ", "truncated or damaged: the container cannot be read"),
        (b"\0\0\0\x18ftypmp42", "truncated or damaged: the container cannot be read"),
        (b"\x1aE\xdf\xa3" + bytes(100), "truncated or damaged: the container cannot be read"),
    ],
)
def test_what_is_not_a_video(tmp_path, content, expected):
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    assert reason(path).startswith(expected)


def test_playlists_open_no_other_file(tmp_path):
    write_video(tmp_path / "other.avi", moving_frames(3))
    path = tmp_path / "clip.avi"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'other.avi'}\n#EXT-X-ENDLIST\n")
    assert reason(path) == "a playlist, not a video"


def test_what_is_not_there(tmp_path):
    assert reason(tmp_path / "clip.avi") == "no such file"
    link = tmp_path / "link.avi"
    link.symlink_to(tmp_path / "clip.avi")
    assert reason(link) == "dangling link: what it points to is not there"
    assert reason(tmp_path) == "not a regular file"


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.avi")
    assert reason(tmp_path / "clip.avi") == "not a regular file"


def test_permission_denied(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.avi", moving_frames(3))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read anything

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(type(path), "open", refuse)
    assert reason(path) == "permission denied"


@pytest.mark.parametrize("name", ["sound.avi", "sound.mp4", "sound.mkv"])
def test_audio_only(tmp_path, name):
    assert reason(write_audio(tmp_path / name)) == "no video stream (audio only)"


def test_unknown_codec(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(3))
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"XQZ7"))
    assert reason(path) == "unknown video codec"


@pytest.mark.parametrize(
    ("side", "expected"),
    [(16000, "frames of 16000x16000: more than 8192x8192 is refused"), (60000, "no valid frame size")],
)
def test_absurd_frame_size(tmp_path, side, expected):
    path = write_video(tmp_path / "clip.avi", moving_frames(3), "rawvideo")
    size = (160).to_bytes(4, "little") + (120).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, 2 * side.to_bytes(4, "little")))
    assert reason(path) == expected


def test_one_absurd_side_is_enough(tmp_path):
    path = write_video(tmp_path / "clip.avi", moving_frames(3), "rawvideo")
    size = (160).to_bytes(4, "little") + (120).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (16000).to_bytes(4, "little") + (120).to_bytes(4, "little")))
    assert reason(path) == "frames of 16000x120: more than 8192x8192 is refused"


def test_ffmpeg_does_not_guess_the_format(tmp_path, monkeypatch):
    path, formats = write_video(tmp_path / "clip.avi", moving_frames(3)), []
    real = av.open
    monkeypatch.setattr(
        av, "open", lambda *args, **kwargs: (formats.append(kwargs["format"]), real(*args, **kwargs))[1]
    )
    probe(path)
    assert formats == ["avi"]


def test_declared_bytes(tmp_path):
    for name in ("clip.mkv", "clip.webm"):
        path = write_video(tmp_path / name, moving_frames(12), "libvpx")
        assert declared_bytes(read_head(path)) == path.stat().st_size
    assert declared_bytes(read_head(write_video(tmp_path / "clip.avi", moving_frames(3)))) is None
    live = write_video(tmp_path / "live.mkv", moving_frames(3), "libvpx", mux_options={"live": "1"})
    assert declared_bytes(read_head(live)) is None
