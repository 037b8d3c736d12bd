"""One fault that was tried, and what came of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Literal

# Gone or refused without a documented reason; other data than an undisturbed run's; processes left.
Outcome = Literal["survived", "lost", "wrong", "traceback", "left"]

Problem = tuple[Outcome, str]  # what a fault has cost, and what was seen


@dataclass(frozen=True)
class Trial:
    """A fault: `kind`, the row of the table that it counts in; `name`, which one it was; `detail`, what was seen where
    it did not survive, with the seed to repeat it.
    """

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""


Job = Callable[[], list[Trial]]


def in_parallel(jobs: Iterator[Job], enough: int, threads: int = 2) -> Iterator[Trial]:
    """The trials of the jobs, so many at a time, until there are enough."""
    found = 0
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(job) for job in islice(jobs, threads)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for job in done:
                trials = job.result()
                found += len(trials)
                yield from trials
            if found + len(running) < enough:
                running |= {pool.submit(job) for job in islice(jobs, len(done))}
