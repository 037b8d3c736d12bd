import hashlib
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from har_cache.downloading.fetch import RemoteFile, RetryPolicy, fetch
from har_cache.errors import DownloadError, HarCacheError

from ..helpers.names import harmful
from ..helpers.websites import Fault, Recorder, Website, website

DATA = random.Random(0).randbytes(3_000_000)
OLDER = b"an older version" * 100_000
SHA256 = hashlib.sha256(DATA).hexdigest()
HURRY = RetryPolicy(timeout_s=0.5, attempts=3, pause_s=0.01)
NAME = "/file.rar"


@pytest.fixture
def site() -> Iterator[Website]:
    with website({NAME: DATA}) as site:
        yield site


@pytest.fixture
def mirror() -> Iterator[Website]:
    with website({NAME: DATA}) as site:
        yield site


def get(folder: Path, *sites: Website, sha256: str | None = SHA256, max_bytes: int = 10_000_000) -> Recorder:
    heard = Recorder()
    target = folder / "file.rar"
    fetch([site.url + NAME for site in sites], RemoteFile(target, sha256, max_bytes), heard, HURRY)
    assert sha256 is None or target.read_bytes() == DATA
    assert {path.name for path in folder.iterdir()} <= {"file.rar", "file.rar.rejected"}
    return heard


def no_one_there() -> Website:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Website(url=f"http://127.0.0.1:{free.getsockname()[1]}")


def interrupted(folder: Path, site: Website, at: int) -> None:
    """As a run that was killed leaves it, after so many bytes from this site."""
    site.always[NAME] = Fault(status=410)
    site.faults[NAME] = [Fault(breaks_at=at)]
    with pytest.raises(DownloadError):
        get(folder, site)
    del site.always[NAME]
    site.asked.clear()
    assert (folder / "file.rar.part").stat().st_size == at


def test_a_file_comes_whole(site: Website, tmp_path: Path) -> None:
    heard = get(tmp_path, site)
    assert site.asked == [(NAME, "")]
    assert heard.begun == [("file.rar", "B", len(DATA), 0)] and heard.advanced == len(DATA) and not heard.said


def test_a_name_is_on_the_disk_before_the_file_is_said_to_be_there(
    site: Website, mirror: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, set[str]]] = []
    monkeypatch.setattr(
        "har_cache.downloading.partial_file.sync_directory",
        lambda path: synced.append((path, {file.name for file in path.iterdir()})),
    )
    site.files[NAME] = b"wrong"
    get(tmp_path, site, mirror)
    assert synced == [(tmp_path, {"file.rar.rejected"}), (tmp_path, {"file.rar.rejected", "file.rar"})]


def test_a_broken_connection_is_taken_up_where_it_broke(site: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(breaks_at=1_000_000), Fault(breaks_at=1_700_000)]
    heard = get(tmp_path, site)
    assert site.asked == [(NAME, ""), (NAME, "bytes=1000000-"), (NAME, "bytes=1700000-")]
    assert heard.advanced == len(DATA) and len(heard.said) == 2


def test_many_breaks_are_no_reason_to_give_up_as_long_as_more_comes(site: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(breaks_at=200_000 * i) for i in range(1, 15)]
    get(tmp_path, site)
    assert len(site.asked) == 15


def test_a_server_that_falls_silent_is_left(site: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(falls_silent_at=1_000_000)]
    heard = get(tmp_path, site)
    assert "fell silent" in heard.said[0] and site.asked[1] == (NAME, "bytes=1000000-")


def test_a_killed_download_goes_on(site: Website, tmp_path: Path) -> None:
    interrupted(tmp_path, site, 1_234_567)
    heard = get(tmp_path, site)
    assert site.asked == [(NAME, "bytes=1234567-")] and heard.advanced == len(DATA) - 1_234_567


def test_a_kill_before_the_last_rename_needs_no_server(site: Website, tmp_path: Path) -> None:
    (tmp_path / "file.rar.part").write_bytes(DATA)
    get(tmp_path, no_one_there())


def test_a_part_that_is_too_long_is_dropped(site: Website, tmp_path: Path) -> None:
    (tmp_path / "file.rar.part").write_bytes(DATA + b"x")
    get(tmp_path, site)


def test_a_server_that_ignores_ranges_starts_anew(site: Website, tmp_path: Path) -> None:
    interrupted(tmp_path, site, 2_000_000)
    site.always[NAME] = Fault(ignores_range=True)
    heard = get(tmp_path, site)
    assert heard.begun[-1] == ("file.rar", "B", len(DATA), 0)


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(
    site: Website, mirror: Website, tmp_path: Path
) -> None:
    site.always[NAME] = Fault(ignores_range=True, breaks_at=1_000_000)
    get(tmp_path, site, mirror)
    assert len(site.asked) == 1 + HURRY.attempts
    assert mirror.asked == [(NAME, "bytes=1000000-")]


def test_a_file_that_changed_is_fetched_anew(site: Website, tmp_path: Path) -> None:
    site.files[NAME] = OLDER
    interrupted(tmp_path, site, 1_000_000)
    site.files[NAME], site.etags[NAME] = DATA, '"2"'
    get(tmp_path, site)
    assert site.asked == [(NAME, "bytes=1000000-"), (NAME, "")]


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_that_changes_while_it_comes_is_fetched_anew(site: Website, tmp_path: Path, sha256: str | None) -> None:
    site.faults[NAME] = [Fault(data=OLDER, etag='"older"', breaks_at=1_000_000)]
    get(tmp_path, site, sha256=sha256)
    assert site.asked == [(NAME, ""), (NAME, "bytes=1000000-")]  # with If-Range, so the answer was the whole
    assert site.conditions[1] == '"older"' and (tmp_path / "file.rar").read_bytes() == DATA


def test_a_weak_etag_does_not_join_two_pieces_but_a_date_does(site: Website, tmp_path: Path) -> None:
    site.etags[NAME], site.dates[NAME] = 'W/"1"', "Wed, 21 Oct 2015 07:28:00 GMT"
    site.faults[NAME] = [Fault(breaks_at=1_000_000)]
    get(tmp_path, site, sha256=None)
    assert site.asked[1] == (NAME, "bytes=1000000-") and site.conditions == ["", site.dates[NAME]]
    assert (tmp_path / "file.rar").read_bytes() == DATA


def test_without_a_checksum_nothing_is_added_to_a_piece_of_an_unknown_version(
    site: Website, mirror: Website, tmp_path: Path
) -> None:
    site.etags[NAME] = 'W/"1"'
    site.faults[NAME] = [Fault(data=OLDER, breaks_at=1_000_000)]
    get(tmp_path, site, sha256=None)
    assert site.asked == [(NAME, ""), (NAME, "")] and (tmp_path / "file.rar").read_bytes() == DATA
    (tmp_path / "file.rar.part").write_bytes(b"of an earlier run")
    mirror.faults[NAME] = [Fault(data=OLDER, breaks_at=1_000_000), Fault(status=410)]
    site.etags[NAME] = mirror.etags[NAME] = '"1"'  # two servers that call two versions the same
    get(tmp_path, mirror, site, sha256=None)
    assert [ranges for _, ranges in mirror.asked] == ["", "bytes=1000000-"] and site.asked[2:] == [(NAME, "")]
    assert (tmp_path / "file.rar").read_bytes() == DATA


def test_pieces_that_do_not_fit_are_replaced_by_the_whole(site: Website, tmp_path: Path) -> None:
    (tmp_path / "file.rar.part").write_bytes(b"something else")
    heard = get(tmp_path, site)
    assert site.asked == [(NAME, "bytes=14-"), (NAME, "")]
    assert "put together" in heard.said[0] and (tmp_path / "file.rar.rejected").stat().st_size == len(DATA)


def test_a_range_from_elsewhere_is_not_taken(site: Website, tmp_path: Path) -> None:
    interrupted(tmp_path, site, 1_000_000)
    site.faults[NAME] = [Fault(range_from=999_999)]
    get(tmp_path, site)
    assert site.asked[-1] == (NAME, "")


def test_a_range_from_elsewhere_is_not_taken_without_a_checksum_either(site: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(breaks_at=1_000_000), Fault(range_from=999_999)]
    get(tmp_path, site, sha256=None)
    assert site.asked == [(NAME, ""), (NAME, "bytes=1000000-"), (NAME, "")]
    assert (tmp_path / "file.rar").read_bytes() == DATA


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_in_the_middle(site: Website, mirror: Website, tmp_path: Path, status: int) -> None:
    site.always[NAME] = Fault(status=status, location=mirror.url + NAME)
    mirror.faults[NAME] = [Fault(breaks_at=1_000_000)]
    get(tmp_path, site)
    assert mirror.asked == [(NAME, ""), (NAME, "bytes=1000000-")]


@pytest.mark.parametrize("where", ["file:///etc/hostname", "ftp://127.0.0.1/file.rar", "data:,x", "/file.rar"])
def test_redirects_to_other_places_than_the_web_or_in_circles_are_not(
    site: Website, mirror: Website, tmp_path: Path, where: str
) -> None:
    site.always[NAME] = Fault(status=302, location=where)
    heard = get(tmp_path, site, mirror)
    assert mirror.asked == [(NAME, "")]
    assert ("leads to ftp" in heard.said[0]) == where.startswith("ftp")


def test_wrong_bytes_are_refused_and_kept_aside(site: Website, mirror: Website, tmp_path: Path) -> None:
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    site.always[NAME] = Fault(data=wrong)
    heard = get(tmp_path, site, mirror)
    assert (tmp_path / "file.rar.rejected").read_bytes() == wrong
    assert SHA256 in heard.said[0] and "rejected" in heard.said[0]
    assert mirror.asked == [(NAME, "")]


def test_a_size_that_is_announced_too_small_leaves_a_part_that_is_refused(
    site: Website, mirror: Website, tmp_path: Path
) -> None:
    site.always[NAME] = Fault(length=len(DATA) - 10)
    heard = get(tmp_path, site, mirror)
    assert mirror.asked == [(NAME, "")] and (tmp_path / "file.rar.rejected").read_bytes() == DATA[:-10]
    assert "sha256" in heard.said[0]


def test_a_size_that_is_announced_too_big_is_asked_about(site: Website, tmp_path: Path) -> None:
    site.always[NAME] = Fault(length=len(DATA) + 10)
    heard = get(tmp_path, site)
    assert "broke off" in heard.said[0] and site.asked == [(NAME, ""), (NAME, f"bytes={len(DATA)}-")]


def test_without_a_length_the_checksum_decides(site: Website, mirror: Website, tmp_path: Path) -> None:
    site.always[NAME] = Fault(no_length=True, breaks_at=1_000_000)
    get(tmp_path, site, mirror)
    mirror.always[NAME] = Fault(no_length=True)
    (tmp_path / "file.rar").unlink()
    get(tmp_path, mirror)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(site: Website, mirror: Website, tmp_path: Path, status: int) -> None:
    site.always[NAME] = Fault(status=status)
    heard = get(tmp_path, site, mirror)
    assert len(site.asked) == 1 and str(status) in heard.said[0]


def test_an_overloaded_server_is_asked_again(site: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(status=503), Fault(status=429)]
    get(tmp_path, site)
    assert len(site.asked) == 3


def test_a_mirror_goes_on_where_another_one_ended(site: Website, mirror: Website, tmp_path: Path) -> None:
    site.faults[NAME] = [Fault(breaks_at=1_000_000)]
    site.always[NAME] = Fault(status=500)
    get(tmp_path, site, mirror)
    assert mirror.asked == [(NAME, "bytes=1000000-")]


def test_a_web_page_does_not_replace_what_has_come(site: Website, mirror: Website, tmp_path: Path) -> None:
    interrupted(tmp_path, site, 1_000_000)
    site.always[NAME] = Fault(data=b"<html>Please log in", content_type="text/html; charset=utf-8", ignores_range=True)
    get(tmp_path, site, mirror)
    assert mirror.asked == [(NAME, "bytes=1000000-")]


def test_nobody_is_there(site: Website, tmp_path: Path) -> None:
    gone = no_one_there()
    get(tmp_path, gone, site)
    (tmp_path / "file.rar").unlink()
    site.always[NAME] = Fault(status=404)
    with pytest.raises(DownloadError) as error:
        get(tmp_path, gone, site)
    text = str(error.value)
    assert gone.url in text and site.url in text and "refused" in text and "404" in text and "--from" in text
    assert "what has come is kept" in text
    assert "\n" not in text


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a b/", "http://127.0.0.1:99999/x", "gopher://x/y"])
def test_a_senseless_url_is_a_reason_not_a_crash(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="cannot be had") as error:
        fetch([url], RemoteFile(tmp_path / "x", None, 100), Recorder(), HURRY)
    assert "kept" not in str(error.value)


@pytest.mark.parametrize("fault", [Fault(), Fault(no_length=True)])
def test_more_than_it_may_be_is_not_taken(site: Website, tmp_path: Path, fault: Fault) -> None:
    site.always[NAME] = fault
    with pytest.raises(DownloadError, match="more than 2000000"):
        get(tmp_path, site, max_bytes=2_000_000)
    part = tmp_path / "file.rar.part"
    assert not part.exists() or part.stat().st_size <= 2_000_000


def test_any_file_will_do_without_a_checksum(site: Website, tmp_path: Path) -> None:
    site.files[NAME] = b"anything"
    get(tmp_path, site, sha256=None)
    assert (tmp_path / "file.rar").read_bytes() == b"anything"


def test_no_room_is_said_before_anything_comes(site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DownloadError, match="room for 1000"):
        get(tmp_path, site)
    assert not (tmp_path / "file.rar.part").exists()


def test_a_place_that_cannot_be_written_is_one_line(site: Website, tmp_path: Path) -> None:
    (tmp_path / "file.rar.part").mkdir()
    with pytest.raises(HarCacheError, match=r"file[.]rar[.]part"):
        get(tmp_path, site)


OK = b"HTTP/1.1 200 OK\r\n"
PARTIAL = b"HTTP/1.1 206 Partial Content\r\n"
SLOW = RetryPolicy(timeout_s=5, attempts=2, pause_s=0.01, window_s=0.15, least_bytes=1000)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(raw=b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n" * 100, every_s=0.001), "sent 0 bytes of the file in"),
        (Fault(raw=OK + b"X: ", endless=b"x", every_s=0.02), "sent 0 bytes of the file in"),
        (Fault(raw=OK + b"Content-Length: 3000000\r\n\r\n", endless=b"x", every_s=0.02), "bytes of the file in"),
        (Fault(raw=OK + b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\nx\r\n", every_s=0.02), "too slow"),
        (Fault(raw=OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", endless=b"a: b\r\n" * 99), "too slow"),
        (Fault(raw=b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", endless=b"x" * 65536), "answers 404 Not Found"),
    ],
    ids=["interim answers", "a header", "drops", "chunks", "trailers", "a redirect"],
)
def test_a_server_that_sends_without_end_and_brings_nothing_is_left(
    site: Website, tmp_path: Path, fault: Fault, reason: str
) -> None:
    site.always[NAME] = fault
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch([site.url + NAME], RemoteFile(tmp_path / "file.rar", SHA256, 10_000_000), Recorder(), SLOW)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_a_slow_server_sent_is_continued_elsewhere(site: Website, mirror: Website, tmp_path: Path) -> None:
    site.always[NAME] = Fault(raw=OK + b"Content-Length: 3000000\r\n\r\n" + DATA[:5000], endless=b"", every_s=0.02)
    site.faults[NAME] = [Fault(raw=site.always[NAME].raw, endless=DATA[5000:5001], every_s=60)]
    heard = Recorder()
    hurry = RetryPolicy(timeout_s=0.3, attempts=1, pause_s=0.01, window_s=0.1, least_bytes=100_000)
    fetch([site.url + NAME, mirror.url + NAME], RemoteFile(tmp_path / "file.rar", SHA256, 10_000_000), heard, hurry)
    assert (tmp_path / "file.rar").read_bytes() == DATA
    assert mirror.asked == [(NAME, "bytes=5000-")]


def test_tries_that_bring_next_to_nothing_come_to_an_end(site: Website, tmp_path: Path) -> None:
    site.always[NAME] = Fault(breaks_at=1)
    site.faults[NAME] = [Fault(breaks_at=at) for at in range(1, 40)]
    with pytest.raises(DownloadError, match="cannot be had"):
        fetch([site.url + NAME], RemoteFile(tmp_path / "file.rar", SHA256, 10_000_000), Recorder(), HURRY)
    assert len(site.asked) == HURRY.attempts and (tmp_path / "file.rar.part").stat().st_size == HURRY.attempts


DIGITS = b"9" * 5000


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (PARTIAL + b"Content-Range: bytes 5-10/" + DIGITS, "announces a size of 5000 digits"),
        (PARTIAL + b"Content-Range: bytes " + DIGITS + b"-10/11", "announces a size of 5000 digits"),
        (OK + b"Content-Length: " + DIGITS, "announces a size of 5000 digits"),
        (OK + b"Content-Length: \xb2\xb2", "sent 69995 bytes with sha256"),
        (OK + b"X: y\r\n" * 5000, "more than 100 headers"),
        (b"HTTP/1.1 200 " + b"x" * 100_000, "got more than 65536 bytes"),
        (b"HTTP/1.1 404 \x1b[2J\x9b\x07" + b"x" * 5000, r"answers 404 \\x1b\[2J\\x9b\\x07x+\.\.\."),
        (b"\x1b[31m\x07" * 99, r"x1b"),
        (b"HTTP/1.1 999999999 x", "http/1.1 999"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[\x1b]:x/", "cannot be had"),
        (b"HTTP/1.1 416 Not Satisfiable\r\nContent-Range: bytes */" + DIGITS, "size of 5000 digits"),
    ],
)
def test_absurd_heads_are_one_clear_line(site: Website, tmp_path: Path, head: bytes, reason: str) -> None:
    (tmp_path / "file.rar.part").write_bytes(DATA[:5])
    site.always[NAME] = Fault(raw=head + b"\r\n\r\n" + DATA[5:70000])
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch([site.url + NAME], RemoteFile(tmp_path / "file.rar", SHA256, 10_000_000), Recorder(), HURRY)
    assert len(str(caught.value)) < 500 and not harmful(str(caught.value))
