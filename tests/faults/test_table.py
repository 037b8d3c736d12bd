from .table import Tally, page
from .trial import Trial, in_parallel

MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 4, "system": "Linux", "versions": {"torch": "2"}, "commit": "abc"}


def tallied(*trials: Trial) -> Tally:
    tally = Tally()
    for trial in trials:
        tally.add("kills", trial)
    return tally


def test_faults_are_counted_by_kind_and_in_all() -> None:
    tally = tallied(Trial("a", "1", "survived"), Trial("a", "2", "wrong", "bytes differ"), Trial("b", "1", "survived"))
    lines = tally.table().splitlines()
    assert lines[0] == "| fault | tried | survived | lost | wrong | traceback | left |"
    assert lines[2] == "| **Commands killed at random moments** | 3 | 2 | 0 | 1 | 0 | 0 |"
    assert lines[3:5] == ["| a | 2 | 1 | 0 | 1 | 0 | 0 |", "| b | 1 | 1 | 0 | 0 | 0 | 0 |"]
    assert lines[5] == "| **all** | 3 | 2 | 0 | 1 | 0 | 0 |"
    assert tally.tried == 3 and [trial.name for trial in tally.bad] == ["2"]


def test_the_page_says_where_and_when_and_what_failed() -> None:
    good, bad = (
        page(tallied(Trial("a", "1", "survived")), MACHINE, 7, 61.4),
        page(tallied(Trial("a", "after 2 s", "lost")), MACHINE, 7, 61.4),
    )
    assert (
        "commit `abc`" in good and "a CPU, 2 cores, 4 GiB" in good and "--long --seed 7" in good and "(61 min" in good
    )
    assert "Nothing was lost, nothing was wrong." in good
    assert "Nothing was lost" not in bad and "- lost: a: after 2 s" in bad


def test_jobs_are_done_until_there_are_enough_trials() -> None:
    begun: list[int] = []

    def job(number: int) -> list[Trial]:
        begun.append(number)
        return [Trial("a", f"{number}.{i}", "survived") for i in range(3)]

    trials = list(in_parallel(((lambda n=n: job(n)) for n in range(100)), enough=7))
    assert 7 <= len(trials) <= 12 and len(trials) == 3 * len(begun)
    assert len(list(in_parallel(((lambda n=n: job(n)) for n in range(2)), enough=100))) == 6
