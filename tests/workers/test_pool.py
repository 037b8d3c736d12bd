import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from har_cache.errors import ClipError, FileError, HarCacheError
from har_cache.workers import pool, watchdog
from har_cache.workers.pool import WorkerKilledError, WorkerPool
from har_cache.workers.tasks import Job
from har_cache.workers.watchdog import Sandbox, bounded, rearm

from ..helpers import fake_decoders
from ..helpers.commands import started
from ..helpers.videos import moving_frames, write_video


def double(number: int) -> int:
    return 2 * number


def raise_surprise() -> None:
    raise KeyError("a\n  surprise")


def crash_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        fake_decoders.segfault()
    return "second time lucky"


def exit_with(status: int) -> None:
    os._exit(status)


def work(seconds: float) -> str:
    end = time.monotonic() + seconds
    with bounded():
        while time.monotonic() < end:
            time.sleep(0.1)
            rearm()
    return "done"


def raise_for_the_user() -> None:
    raise FileError("the disk is full")


def pid() -> int:
    return os.getpid()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def workers() -> Iterator[WorkerPool]:
    with WorkerPool(Job("pyav", stall_s=1.0, memory_bytes=1 << 30), 2) as pool:
        yield pool


def only(pool: WorkerPool, function: Any, *args: Any) -> Any:
    [(tag, outcome)] = pool.run(function, [("tag", args)])
    assert tag == "tag"
    return outcome


def test_every_call_has_its_own_result(workers: WorkerPool) -> None:
    assert dict(workers.run(double, ((i, (i,)) for i in range(50)))) == {i: 2 * i for i in range(50)}


def test_a_worker_does_not_start_the_program_over(
    workers: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit('it was started over')")
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", str(tmp_path / "script.py"), raising=False)
    assert only(workers, exit_with, 3).args  # so that the next call takes a new process
    assert only(workers, double, 4) == 8


def test_calls_are_drawn_as_they_are_worked_off(workers: WorkerPool) -> None:
    drawn = []

    def calls() -> Iterator[tuple[int, tuple[int]]]:
        for i in range(100):
            drawn.append(i)
            yield i, (i,)

    results = workers.run(double, calls())
    next(results)
    assert len(drawn) < 20
    assert len(list(results)) == 99


def test_no_calls_no_results(workers: WorkerPool) -> None:
    assert list(workers.run(double, [])) == []


def test_a_surprise_fails_its_own_call_with_one_line(workers: WorkerPool) -> None:
    outcome = only(workers, raise_surprise)
    assert isinstance(outcome, ClipError)
    assert "KeyError" in str(outcome) and "surprise" in str(outcome) and "\n" not in str(outcome)


def test_a_call_that_killed_its_worker_once_is_tried_again(workers: WorkerPool, tmp_path: Path) -> None:
    assert only(workers, crash_once, tmp_path / "marker") == "second time lucky"


def be_killed(marker: Path, times: int) -> str:
    """The process is killed from outside at the first `times` calls."""
    count = int(marker.read_text()) if marker.exists() else 0
    if count < times:
        marker.write_text(str(count + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return "in the end"


def test_workers_that_are_killed_from_outside_are_replaced_a_few_times(workers: WorkerPool, tmp_path: Path) -> None:
    assert only(workers, be_killed, tmp_path / "four", 4) == "in the end"
    outcome = only(workers, be_killed, tmp_path / "more", 99)
    assert isinstance(outcome, WorkerKilledError) and "killed from outside (SIGKILL)" in str(outcome)
    assert (tmp_path / "more").read_text() == "5"


def test_an_exit_of_the_worker_fails_its_call_with_the_status(workers: WorkerPool) -> None:
    assert "status 3" in str(only(workers, exit_with, 3))


def test_the_bound_of_time_holds_from_the_first_step_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_stall_s", 60.0, raising=False)
    with bounded():
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_crash_hang_and_hog_cost_nothing_but_themselves(workers: WorkerPool, tmp_path: Path) -> None:
    names = ["good0", "segfault", "good1", "hang", "good2", "hog", "good3"]
    paths = [write_video(tmp_path / f"{name}.avi", moving_frames(5)) for name in names]
    outcomes = dict(workers.run(fake_decoders.sample, [(p.stem, (p, 5)) for p in paths]))
    good = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, np.ndarray)}
    assert sorted(good) == ["good0", "good1", "good2", "good3"]
    assert {len(frames) for frames in good.values()} == {5}
    reasons = {name: str(outcome) for name, outcome in outcomes.items() if name not in good}
    assert reasons == {
        "segfault": "the decoder crashes: SIGSEGV (tried twice)",
        "hang": "the decoder hangs: no frame for 1 s (tried twice)",
        "hog": "decoding it takes more than the 1 GiB of memory a worker may use (tried twice)",
    }


def test_crashes_are_not_lost_on_a_busy_process(workers: WorkerPool) -> None:
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    for _ in range(3):
        threading.Thread(target=spin).start()
    try:
        outcomes = dict(workers.run(fake_decoders.segfault, ((i, ()) for i in range(10))))
    finally:
        over.set()
    assert sorted(outcomes) == list(range(10))
    assert {str(outcome) for outcome in outcomes.values()} == {"the decoder crashes: SIGSEGV (tried twice)"}


def test_ctrl_c_is_not_for_the_workers(workers: WorkerPool) -> None:
    process = only(workers, pid)
    os.kill(process, signal.SIGINT)
    assert process in {only(workers, pid) for _ in range(20)}


def test_a_worker_that_is_no_longer_wanted_ends_by_itself() -> None:
    worker = pool._Worker(Sandbox())
    too_late = threading.Timer(10, worker.process.kill)
    too_late.start()
    try:
        assert worker.call(double, (4,)) == 8
        assert worker.join() == 0
    finally:
        too_late.cancel()


def test_a_process_is_renewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("har_cache.workers.pool._CALLS_A_PROCESS", 2)
    with WorkerPool(Sandbox(), 1) as pool:
        processes = [pool.submit(pid).result() for _ in range(6)]
    assert processes[0::2] == processes[1::2] and len(set(processes)) == 3


def test_a_call_that_goes_on_is_no_stall_however_long_it_takes() -> None:
    with WorkerPool(Sandbox(stall_s=0.3), 1) as pool:
        assert only(pool, work, 1.0) == "done"
        process = only(pool, pid)
        time.sleep(0.6)
        assert only(pool, pid) == process  # nor is idling one


def test_the_pool_imports_no_torch() -> None:
    code = "import har_cache.workers.pool, sys; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_error_meant_for_the_user_stays_as_it_is(workers: WorkerPool) -> None:
    outcome = only(workers, raise_for_the_user)
    assert isinstance(outcome, ClipError) and str(outcome) == "the disk is full"


def test_a_directory_that_is_gone_is_one_clear_line(tmp_path: Path) -> None:
    code = """
import os, sys
from har_cache.errors import HarCacheError
from har_cache.workers.pool import fork_server
os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
try:
    fork_server()
except HarCacheError as error:
    sys.exit("the current directory is gone" not in str(error))
"""
    (tmp_path / "gone").mkdir()
    finished = subprocess.run([sys.executable, "-c", code, tmp_path / "gone"], check=False, timeout=60)
    assert finished.returncode == 0


def test_no_process_is_left_behind() -> None:
    with WorkerPool(Job("pyav"), 2) as pool:
        processes = {process for _, process in pool.run(pid, [(i, ()) for i in range(8)])}
        pool.submit(sleep, 60)
    assert not any(alive(process) for process in processes)


@dataclass(frozen=True)
class Slow(Sandbox):
    """Its preparation takes its time, and says that it has begun."""

    begun: Path

    def prepare(self) -> None:
        self.begun.touch()
        time.sleep(60)


def test_a_worker_that_is_being_prepared_ends_with_who_wants_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from har_cache.workers.pool import WorkerPool\n"
        "from tests.workers.test_pool import Slow, pid\n"
        "with WorkerPool(Slow(begun=pathlib.Path(sys.argv[1])), 1) as pool: pool.submit(pid).result()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "begun")]
    with started([], tmp_path, command=command, cwd=Path(__file__).parents[2]) as run:
        run.wait_until((tmp_path / "begun").exists)
        run.process.kill()
        assert run.all_gone(5)


def test_where_no_process_can_be_started_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, said in ((BlockingIOError(11, "Resource temporarily unavailable"), ": Resource temp"), (EOFError(), "")):
        monkeypatch.setattr(pool, "_Worker", Mock(side_effect=error))
        with WorkerPool(Sandbox(), 1) as workers, pytest.raises(HarCacheError) as caught:
            list(workers.run(pid, [(0, ())]))
        assert str(caught.value).startswith(f"no worker process can be started{said}") and "ulimit -u" in str(
            caught.value
        )


def test_memory_that_is_bounded_already_is_not_bounded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[int, int]] = []
    monkeypatch.setattr(watchdog.resource, "setrlimit", lambda _, limits: bounds.append(limits))
    for most in (1000, watchdog.resource.RLIM_INFINITY):
        monkeypatch.setattr(watchdog.resource, "getrlimit", lambda _, most=most: (most, most))
        watchdog._limit_memory(5)
    assert bounds[0] == (1000, 1000) and bounds[1][0] > 5 and bounds[1][1] == watchdog.resource.RLIM_INFINITY


def maps(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/maps").read_bytes()
    except OSError:
        return b""


def test_the_fork_server_ends_with_who_started_it_while_it_imports(tmp_path: Path) -> None:
    code = "from har_cache.workers.pool import fork_server; fork_server(); print('there', flush=True); input()"
    command = [sys.executable, "-c", code]
    with started([], tmp_path, command=command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.process.stdout is not None and run.process.stdout.readline() == b"there\n"
        run.wait_until(lambda: any(b"numpy" in maps(pid) for pid in run.members()))  # torch comes after it
        run.process.kill()
        assert run.all_gone(1)


def test_a_worker_killed_between_calls_is_replaced_at_no_call_s_expense() -> None:
    with WorkerPool(Job("pyav"), 1) as pool:
        for _ in range(3):
            os.kill(pool.submit(pid).result(), signal.SIGKILL)
            while pool._workers[0].process.is_alive():
                time.sleep(0.001)
        assert pool.submit(double, 4).result() == 8
