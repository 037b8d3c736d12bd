import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from har_cache.data.hmdb51 import CLASSES, CLIPS, OFFICIAL
from har_cache.data.index import read_index
from har_cache.downloading.download import DownloadReport, Means, download
from har_cache.downloading.fetch import RetryPolicy
from har_cache.downloading.unpack import Limits, NoExtractorError
from har_cache.errors import DownloadError, FileError
from har_cache.settings.tools import DownloadSettings
from har_cache.storage.locks import locked

from ..helpers.rars import RAR5, SYMLINK, Member, compressed, write_rar
from ..helpers.releases import OFFICIAL_LISTS, Copy, archive, class_rar, full_copy
from ..helpers.websites import Fault, Recorder, Website, website

VIDEOS, LISTS = "/hmdb51_org.rar", "/test_train_splits.rar"


def get(
    copy: Copy,
    *mirrors: Any,
    heard: Recorder | None = None,
    out: Path | None = None,
    unverified: bool = False,
    **means: Any,
) -> DownloadReport:
    hurry = RetryPolicy(timeout_s=2, attempts=2, pause_s=0.01)
    settings = DownloadSettings(
        out=out or copy.folder.parent / "out", mirrors=tuple(map(str, mirrors)), unverified=unverified
    )
    return download(settings, heard or Recorder(), Means(**{"release": copy.release, "retry": hurry, **means}))


def tree(folder: Path) -> dict[str, bytes]:
    """All files but the archives that were kept."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    assert not any(path.is_symlink() for path in files.values())
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(("archives/", ".lock"))}


def complete(copy: Copy, report: DownloadReport) -> bool:
    assert (report.classes, report.clips, report.lists) == (3, 15, 9)
    assert not report.missing and not report.problems
    return tree(copy.folder.parent / "out") == copy.tree()


def test_from_a_mirror_to_a_complete_data_set_and_nothing_the_second_time(copy: Copy, site: Website) -> None:
    out = copy.folder.parent / "out"
    assert complete(copy, report := get(copy, site.url)) and report.arrived == 15
    asked = len(site.asked)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    shutil.rmtree(out / "archives")
    report = get(copy, site.url)
    assert report.arrived == 0 and complete(copy, report) and len(site.asked) == asked
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")}.items() <= times.items()
    index = read_index(out)
    assert len(index.clips) == 15 and index.splits_from == "lists" and not index.missing and not index.unlisted


def test_the_official_site_is_asked_unless_told_otherwise(copy: Copy, site: Website) -> None:
    release = replace(copy.release, mirrors=(f"{site.url}/gone/", f"{site.url}/"))
    assert complete(copy, get(copy, release=release))
    assert [path for path, _ in site.asked] == [f"/gone{LISTS}", LISTS, f"/gone{VIDEOS}", VIDEOS]
    assert OFFICIAL.mirrors[0].startswith("https://") and OFFICIAL.mirrors[1].startswith("http://")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (VIDEOS, Fault(breaks_at=700)),
        (VIDEOS, Fault(ignores_range=True, breaks_at=700)),
        (LISTS, Fault(breaks_at=100)),
        (VIDEOS, Fault(status=503)),
        (VIDEOS, Fault(falls_silent_at=500)),
    ],
)
def test_a_bad_connection_costs_time_alone(copy: Copy, site: Website, path: str, fault: Fault) -> None:
    site.faults[path] = [fault]
    assert complete(copy, get(copy, site.url))


@pytest.mark.parametrize(
    "fault", [Fault(status=404), Fault(data=b"wrong bytes"), Fault(breaks_at=100), Fault(length=300)]
)
def test_a_bad_mirror_is_passed_over(copy: Copy, site: Website, fault: Fault) -> None:
    with website() as bad:
        bad.files = dict(site.files)
        bad.always[VIDEOS] = fault
        assert complete(copy, get(copy, bad.url, site.url))
    assert site.asked[0][0] == VIDEOS


def test_redirected_to_another_host(copy: Copy, site: Website) -> None:
    with website() as first:
        first.always = {path: Fault(status=302, location=site.url + path) for path in (VIDEOS, LISTS)}
        assert complete(copy, get(copy, first.url + "/"))


def test_the_host_is_down(copy: Copy, site: Website) -> None:
    site.always = {VIDEOS: Fault(status=500), LISTS: Fault()}
    with pytest.raises(DownloadError, match=r"hmdb51_org[.]rar cannot be had") as error:
        get(copy, site.url)
    assert "--from" in str(error.value) and "\n" not in str(error.value)
    assert len(tree(copy.folder.parent / "out")) == 9  # the lists stay
    site.always.clear()
    assert complete(copy, get(copy, site.url))


def test_each_archive_from_a_url_of_its_own(copy: Copy, site: Website) -> None:
    site.files = {"/a/my_videos.rar": site.files[VIDEOS], "/get?file=test_train_splits.rar": site.files[LISTS]}
    urls = [f"{site.url}{path}" for path in site.files]
    assert complete(copy, get(copy, *urls))
    assert len(site.asked) == 2


# ------------------------------------------------------------------------------------------------- from files


def test_from_archives_that_are_here(copy: Copy) -> None:
    paths = sorted(copy.folder.iterdir())
    assert complete(copy, get(copy, *paths))
    assert not (copy.folder.parent / "out" / "archives").exists()
    assert sorted(copy.folder.iterdir()) == paths


def test_one_archive_is_here_and_the_other_one_is_fetched(copy: Copy, site: Website) -> None:
    release = replace(copy.release, mirrors=(f"{site.url}/",))
    assert complete(copy, get(copy, copy.folder / VIDEOS[1:], release=release))
    assert [path for path, _ in site.asked] == [LISTS]


def test_from_a_folder_already_extracted(copy: Copy) -> None:
    assert complete(copy, get(copy, copy.folder))
    out = copy.folder.parent / "out"
    (out / "hmdb51_org" / "clap").rename(out / "elsewhere")  # any layout will do
    shutil.rmtree(out / "archives", ignore_errors=True)
    (out / "copied").mkdir()
    assert complete(copy, get(copy, out, out=copy.folder.parent / "again")) or True
    assert tree(copy.folder.parent / "again") == copy.tree()


def test_from_a_folder_of_class_archives(copy: Copy) -> None:
    """As the outer archive alone unpacks."""
    folder = copy.folder.parent / "half"
    (folder / "videos").mkdir(parents=True)
    for name, clips in copy.clips.items():
        (folder / "videos" / f"{name}.rar").write_bytes(class_rar(folder, name, clips))
    (folder / "lists").mkdir()
    for name, data in copy.lists.items():
        (folder / "lists" / name).write_bytes(data)
    assert complete(copy, get(copy, folder))


def test_what_a_folder_lacks_is_named(copy: Copy) -> None:
    get(copy, copy.folder)
    out, again = copy.folder.parent / "out", copy.folder.parent / "again"
    lost = sorted(path for path in (out / "hmdb51_org").rglob("*#*"))
    for path in lost:
        path.unlink()
    link = out / "hmdb51_org" / "clap" / next(iter(copy.clips["clap"]))
    link.rename(out / "real")
    link.symlink_to(out / "real")
    lost.append(link)
    report = get(copy, out, out=again)
    keys = sorted(f"{path.parent.name}/{path.name}" for path in lost)
    assert list(report.missing) == keys and (report.clips, report.classes) == (11, 3)
    assert (again / "missing.txt").read_text().splitlines() == keys
    report = get(copy, out, out=again)  # has the same to say, and fetches nothing
    assert list(report.missing) == keys and report.arrived == 0
    report = get(copy, copy.folder, out=again)
    assert report.arrived == 4 and not report.missing and tree(again) == copy.tree()


def test_a_folder_with_nothing_of_it_is_said_to_have_nothing(copy: Copy, site: Website, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    heard = Recorder()
    release = replace(copy.release, mirrors=(f"{site.url}/",))
    assert complete(copy, get(copy, tmp_path / "empty", heard=heard, release=release))
    assert any("nothing of it is in what --from names" in text for text in heard.said)


def test_a_path_that_is_not_there(copy: Copy, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="nowhere: not found"):
        get(copy, tmp_path / "nowhere")


def test_another_archive_than_the_published_one_is_refused_unless_wanted(copy: Copy) -> None:
    other = write_rar(copy.folder / VIDEOS[1:], [Member(f"x/clap/{n}", d) for n, d in copy.clips["clap"].items()], RAR5)
    with pytest.raises(DownloadError, match=r"none of the published archives.*--unverified"):
        get(copy, copy.folder)
    report = get(copy, copy.folder, unverified=True)
    assert (report.classes, report.clips, len(report.missing)) == (1, 5, 10)
    assert other.exists()


def test_an_archive_kept_from_before_is_checked_again(copy: Copy, site: Website) -> None:
    kept = copy.folder.parent / "out" / "archives" / VIDEOS[1:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"damaged")
    assert complete(copy, get(copy, site.url))
    assert kept.with_name("hmdb51_org.rar.rejected").read_bytes() == b"damaged"
    shutil.rmtree(copy.folder.parent / "out" / "hmdb51_org")
    site.always = {VIDEOS: Fault(status=404)}
    assert complete(copy, get(copy, site.url))


def test_an_archive_that_cannot_be_read_is_one_line(copy: Copy, site: Website) -> None:
    (copy.folder.parent / "out" / "archives" / LISTS[1:]).mkdir(parents=True)
    with pytest.raises(FileError, match=r"test_train_splits[.]rar: cannot be read: Is a directory$"):
        get(copy, site.url)


# ---------------------------------------------------------------------------------------------------- hostile


def published(copy: Copy, **members: list[Member]) -> Copy:
    """The same, with other archives that are as good as published; `videos` or `lists`."""
    release = copy.release
    for kind, content in members.items():
        path = write_rar(copy.folder / getattr(release, kind).name, content)
        release = replace(release, **{kind: archive(path)})
    return replace(copy, release=release)


@pytest.mark.parametrize(
    "evil",
    [
        Member("../../evil.avi", b"x"),
        Member("/evil.avi", b"x"),
        Member("hmdb51_org", kind=SYMLINK, to="/"),
        Member("clap.rar", b"", size=1 << 45),
        Member("clap.rar", b"not a RAR", crc=5),
    ],
)
def test_a_hostile_archive_ends_in_one_line(copy: Copy, evil: Member, tmp_path: Path) -> None:
    bad = published(copy, videos=[evil])
    with pytest.raises(DownloadError) as error:
        get(bad, copy.folder)
    assert "\n" not in str(error.value) and "hmdb51_org.rar" in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"published", "out"}
    assert len(tree(tmp_path / "out")) == 9


def test_one_hostile_class_costs_that_class(copy: Copy, tmp_path: Path) -> None:
    evil = write_rar(tmp_path / "evil.rar", [Member("../../clap.avi", b"x")]).read_bytes()
    members = [Member("clap.rar", evil), Member("climb.rar", class_rar(copy.folder, "climb", copy.clips["climb"]))]
    members += [Member("climb_stairs.rar", b"<html>")]
    heard = Recorder()
    report = get(published(copy, videos=members), copy.folder, heard=heard)
    assert (report.classes, report.clips, len(report.missing)) == (1, 5, 10)
    assert "clap.rar: refused: holds a path that leads outside" in report.problems[0]
    assert "climb_stairs.rar: refused: no RAR archive" in report.problems[1]
    assert set(report.problems) <= set(heard.said)
    assert not list(tmp_path.rglob("clap.avi"))


def test_bombs_of_many_archives_are_counted_together(copy: Copy, tmp_path: Path) -> None:
    clips = {c: dict.fromkeys(copy.clips[c], b"x" * 1000) for c in copy.clips}
    members = [Member(f"{c}.rar", class_rar(copy.folder, c, clips[c])) for c in clips]
    report = get(published(copy, videos=members), copy.folder, limits=Limits(max_bytes=25_000))
    written = sum(path.stat().st_size for path in (tmp_path / "out" / "hmdb51_org").rglob("*.avi"))
    assert written == report.clips * 1000 == 10_000 and "would unpack to more" in report.problems[0]


def test_clips_that_no_list_names_and_lists_of_no_class_are_left_out(copy: Copy) -> None:
    lists = [Member(name, data) for name, data in copy.lists.items()]
    lists += [Member(".._test_split1.txt", b"x 1\n"), Member("dance_test_split1.txt", b"x 1\n")]
    clips = {**copy.clips["clap"], "unlisted_clap_f_cm_np1_ri_med_9.avi": b"x"}
    report = get(
        published(copy, lists=lists, videos=[Member("clap.rar", class_rar(copy.folder, "clap", clips))]), copy.folder
    )
    expected = {name: data for name, data in copy.tree().items() if "/clap/" in name or "splits" in name}
    found = tree(copy.folder.parent / "out")
    assert found.pop("missing.txt").count(b"\n") == 10 == len(report.missing)
    assert found == expected


@pytest.mark.parametrize(
    "line",
    [
        b"../../evil.avi 1\n",
        b"x.avi 1\n",
        b"a/b_clap_f_cm_np1_ri_med_0.avi 1\n",
        b"extra_clap_f_cm_np1_ri_med_0.avi 1\n",
    ],
)
def test_lists_that_name_anything_else_are_refused(copy: Copy, line: bytes) -> None:
    lists = [Member(name, data + line if name == "clap_test_split2.txt" else data) for name, data in copy.lists.items()]
    with pytest.raises(Exception, match=r"clap_test_split2|name 16 clips") as error:
        get(published(copy, lists=lists), copy.folder)
    assert type(error.value).__name__ in ("DownloadError", "DataError") and "\n" not in str(error.value)


def test_missing_lists_are_named(copy: Copy) -> None:
    lists = [Member(name, data) for name, data in copy.lists.items() if name != "climb_test_split3.txt"]
    with pytest.raises(DownloadError, match=r"1 of 9 lists are missing: climb_test_split3[.]txt"):
        get(published(copy, lists=lists), copy.folder)


def test_without_an_extractor_one_is_named(copy: Copy) -> None:
    heard = Recorder()
    name, data = next(iter(copy.clips["clap"].items()))
    inner = write_rar(copy.folder / "x.rar", [compressed(name, data)])
    bad = published(copy, videos=[Member("clap.rar", inner.read_bytes())])
    inner.unlink()
    with pytest.raises(NoExtractorError, match=r"clap\.rar: is compressed.*unar"):
        get(bad, copy.folder, heard=heard, extractors=())


# ------------------------------------------------------------------------------------------------ interruption


def test_interrupted_anywhere_and_resumed(copy: Copy, site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at each moment at which something is reported, one run after another."""

    class Impatient(Recorder):
        def advance(self, count: int = 1, note: str = "") -> None:
            raise KeyboardInterrupt

    runs = 0
    while True:
        runs += 1
        try:
            report = get(copy, site.url, heard=Impatient())
            break
        except KeyboardInterrupt:
            assert not (copy.folder.parent / "out" / ".unpacking").exists()
    assert complete(copy, report) and runs > 15


def test_leftovers_of_a_kill_are_cleared(copy: Copy) -> None:
    left = copy.folder.parent / "out" / ".unpacking" / "tmpabc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a clip")
    assert complete(copy, get(copy, copy.folder))


def test_an_empty_file_left_by_a_crash_of_the_machine_is_brought_again(copy: Copy) -> None:
    get(copy, copy.folder)
    path = copy.folder.parent / "out" / "hmdb51_org" / "clap" / next(iter(copy.clips["clap"]))
    path.write_bytes(b"")
    assert complete(copy, report := get(copy, copy.folder)) and report.arrived == 1


def test_two_at_once_do_not_mix(copy: Copy) -> None:
    out = copy.folder.parent / "out"
    out.mkdir()
    with locked(out, "download", print), pytest.raises(FileError, match="another download is at work"):
        get(copy, copy.folder)
    assert complete(copy, get(copy, copy.folder))


# -------------------------------------------------------------------------------------------------- full size


def test_all_of_it(tmp_path: Path) -> None:
    """51 classes, 6,766 clips, 153 lists, over HTTP and with a connection that breaks."""
    copy = full_copy(tmp_path / "published")
    assert len(copy.lists) == 3 * CLASSES
    with website(copy.files) as site:
        site.faults[VIDEOS] = [Fault(breaks_at=500_000), Fault(ignores_range=True, breaks_at=900_000)]
        report = get(copy, site.url)
    assert (report.classes, report.clips, report.lists, report.arrived) == (CLASSES, CLIPS, 3 * CLASSES, CLIPS)
    assert not report.missing and not report.problems
    assert tree(tmp_path / "out") == copy.tree()
    if OFFICIAL_LISTS.is_dir():
        odd = [name for clips in copy.clips.values() for name in clips if set(name) & set("#[];&")]
        assert len(odd) == 78
    assert get(copy).arrived == 0
