"""A cache as a state machine: clips come, are mended and go, extractions are killed or refused, files are damaged, in
any order. The model is a dictionary of what must be in the cache.

Decoding and encoding are replaced by a look at the file's bytes; all else is the real thing: plan, store, records,
manifest, resuming, recovery, locks, verification and reader. An extraction is killed in a process of its own.
"""

import os
import random
import re
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from har_cache.cache.manifest import PLAN, read_manifest, read_plan
from har_cache.cache.reader import FeatureCache
from har_cache.cache.verify import verify
from har_cache.errors import CacheError, HarCacheError
from har_cache.extraction import extract as extraction
from har_cache.settings.extraction import ExtractSettings
from har_cache.storage import failpoints

from ..helpers.caches import settled_files
from ..helpers.fake_extraction import GOOD, MISSING, embeddings_of, fake_extraction, made_with, reason_of

ENCODER, MANIFEST = "encoder.safetensors", "manifest.json"
BAD = b"bad"
DONE, BROKEN, REFUSED = 0, 1, 3
counts: Counter[str] = Counter()  # of all runs in this process

Outcome = np.ndarray | str | None  # embeddings, or the reason of a failure, or neither: unknown to the cache


def same(found: Outcome, expected: Outcome) -> bool:
    if isinstance(found, np.ndarray) and isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    return type(found) is type(expected) and found == expected


class CacheMachine(RuleBasedStateMachine):
    """`files`: whether each clip is good, present or not; `held`: what the last finished extraction must have left."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.cache, self.calm = self.root / "cache", self.root / "calm"
        self.videos = self.root / "data" / "videos"
        self.good: dict[str, bool] = {}
        self.gone: set[str] = set()
        self.held: dict[str, Outcome] | None = None  # None: there is no finished cache that must be there
        self.seed = 0
        self.written: dict[str, bytes] = {}  # the cache's files as the last extraction left them
        self.disturbed = False  # since the last finished extraction: killed, or damaged
        self.interrupted = False  # killed, that is
        self.may_be_lost = False  # since then, --overwrite was killed, or a file damaged
        self.comparable = True  # whether an undisturbed history gives the same bytes
        self.mended = False
        self.stack.enter_context(fake_extraction())

    # ------------------------------------------------------------------------------------------------ the clips

    @initialize(good=st.lists(st.booleans(), min_size=1, max_size=5))
    def some_clips(self, good: list[bool]) -> None:
        for each in good:
            self._put(f"{'ab'[len(self.good) % 2]}/{len(self.good)}.avi", each)

    @rule(good=st.lists(st.booleans(), min_size=1, max_size=3))
    def add_clips(self, good: list[bool]) -> None:
        self.some_clips(good)
        self._clips_changed()

    @rule(data=st.data())
    def mend_a_clip(self, data: st.DataObject) -> None:
        if bad := [key for key in self._present() if not self.good[key]]:
            self._put(data.draw(st.sampled_from(bad)), True)
            self.mended = True
            self._clips_changed()

    @rule(data=st.data())
    def remove_a_clip(self, data: st.DataObject) -> None:
        if len(present := self._present()) > 1:
            key = data.draw(st.sampled_from(present))
            (self.videos / key).unlink()
            self.gone.add(key)
            self._clips_changed()

    @precondition(lambda self: self.gone)
    @rule()
    def bring_the_clips_back(self) -> None:
        for key in sorted(self.gone):
            self._put(key, self.good[key])
        self.gone.clear()
        self._clips_changed()

    def _put(self, key: str, good: bool) -> None:
        path = self.videos / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((GOOD if good else BAD) + key.encode())
        self.good[key] = good

    def _present(self) -> list[str]:
        return sorted(self.good.keys() - self.gone)

    def _clips_changed(self) -> None:
        if self.disturbed:
            self.comparable = False

    # ------------------------------------------------------------------------------------------ the extractions

    def _settings(self, **changes: Any) -> ExtractSettings:
        return made_with(self.root, **{"seed": self.seed, **changes})

    @rule(retry_failed=st.booleans())
    def extract(self, retry_failed: bool) -> None:
        if retry_failed and self.disturbed:
            self.comparable = False  # clips of a shard that is lost are tried again there, and not in a later one
        self._extract(retry_failed=retry_failed)

    @rule(seed=st.integers(0, 1))
    def overwrite(self, seed: int) -> None:
        self._extract(seed=seed, overwrite=True)

    def _extract(self, **changes: Any) -> None:
        counts["extractions"] += 1
        wanted = self._settings(**changes)
        before = settled_files(self.cache)
        try:
            extraction.extract(wanted)
        except HarCacheError as error:
            self._refused(error, wanted, before)
        else:
            self._finished(wanted)

    @rule()
    def extract_with_another_recipe(self) -> None:
        """It is refused, and changes nothing, as long as anything tells the recipe of the cache."""
        before, was_damaged = settled_files(self.cache), self._is_damaged(PLAN)
        if self._told_recipe() is None:
            return
        counts["refusals"] += 1
        try:
            extraction.extract(self._settings(seed=1 - self.seed))
        except HarCacheError as error:
            assert "another recipe" in str(error) and "--overwrite" in str(error), error
        else:
            raise AssertionError("a cache has one recipe")
        after = settled_files(self.cache)
        assert {**after, PLAN: b""} == {**before, PLAN: b""}
        assert was_damaged or after[PLAN] == before[PLAN]  # else it was recovered

    @rule(step=st.integers(1, 28))
    def kill(self, step: int) -> None:
        """An extraction is killed at one of the steps of committing a file; its temporaries stay behind."""
        self._kill(step, self._settings())

    @rule(step=st.integers(1, 28), seed=st.integers(0, 1))
    def kill_an_overwrite(self, step: int, seed: int) -> None:
        """Or at the removal of one."""
        self._kill(step, self._settings(overwrite=True, seed=seed))

    def _kill(self, step: int, wanted: ExtractSettings) -> None:
        before = settled_files(self.cache)
        child = os.fork()
        if not child:
            os.environ[failpoints.VARIABLE] = f"*@{step}=SIGKILL"
            try:
                extraction.extract(wanted)
                os._exit(DONE)
            except HarCacheError:
                os._exit(REFUSED)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(BROKEN)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == DONE:
            self._finished(wanted)
        elif status == REFUSED:
            self._refused(None, wanted, before)
        else:
            assert status == -signal.SIGKILL
            counts["kills"] += 1
            self._interrupted(wanted)

    @rule(step=st.integers(1, 28), error=st.sampled_from(["ENOSPC", "EIO", "EACCES"]))
    def fail(self, step: int, error: str) -> None:
        """A step of committing a file fails; nothing half-written stays behind."""
        failpoints._seen.clear()
        before = settled_files(self.cache)
        wanted = self._settings()
        fault: HarCacheError | None = None
        with mock.patch.dict(os.environ, {failpoints.VARIABLE: f"*@{step}={error}"}):
            try:
                extraction.extract(wanted)
            except HarCacheError as raised:
                fault = raised
        if fault is None:
            self._finished(wanted)
            return
        if not re.search("cannot be (written|removed)", str(fault)):
            self._refused(fault, wanted, before)
            return
        counts["failures"] += 1
        assert not [path for path in self.cache.rglob("*") if path.name.startswith((".tmp-", ".lock"))]
        self._interrupted(wanted)

    def _interrupted(self, wanted: ExtractSettings) -> None:
        """What was there is still there, or what was to be there already is."""
        self.disturbed = self.interrupted = True
        if wanted.overwrite:
            self.may_be_lost, self.comparable = True, False
            if (told := self._told_recipe()) is not None:
                self.seed = told
        elif self.gone or self.mended:
            self.comparable = False
        self.read()

    def _refused(self, error: HarCacheError | None, wanted: ExtractSettings, before: Mapping[str, bytes]) -> None:
        """Only where the encoder is lost, or all that told the recipe; the way out is named; nothing is changed."""
        counts["refusals"] += 1
        assert not wanted.overwrite, error
        encoder_lost = before.get(ENCODER) != f"the encoder of seed {self.seed}".encode()
        assert encoder_lost or (self._is_damaged(PLAN) and not self._has_manifest()), error
        if error is not None and "encoder" not in str(error):
            assert isinstance(error, CacheError) and "--overwrite" in str(error) and "restore" in str(error), error

    def _finished(self, wanted: ExtractSettings) -> None:
        if wanted.overwrite:
            self.seed, self.held, self.comparable, self.mended = wanted.seed, None, True, False
            shutil.rmtree(self.calm, ignore_errors=True)
        expected = self._expected()
        found = self._read()
        for key in found.keys() | expected.keys():
            assert any(same(found.get(key), each) for each in expected[key]), (key, found.get(key), expected[key])
        assert verify(self.cache) == []
        assert {problem.partition(":")[0] for problem in verify(self.cache, self.root / "data")} <= self.gone
        self.held, self.written = found, settled_files(self.cache)
        self.disturbed = self.interrupted = self.may_be_lost = False
        assert self.written[ENCODER] == f"the encoder of seed {self.seed}".encode()
        if self.comparable:
            extraction.extract(self._settings(cache=self.calm, retry_failed=wanted.retry_failed))
            assert settled_files(self.calm) == self.written

    def _expected(self) -> dict[str, list[Outcome]]:
        """What may be in the cache, by key. A clip that is there is as its file is; what of one that is gone was in a
        file of the cache that was damaged may be lost, and is then said to be.
        """
        expected: dict[str, list[Outcome]] = {
            key: [embeddings_of(key) if self.good[key] else reason_of(key)] for key in self._present()
        }
        for key in self.gone:
            if self.held is not None and key in self.held and not self.disturbed:
                expected[key] = [self.held[key]]
            else:
                expected[key] = [embeddings_of(key), reason_of(key), MISSING, None]
        return expected

    # ------------------------------------------------------------------------------------------------ the files

    @precondition(lambda self: self.written)
    @rule(
        data=st.data(),
        how=st.sampled_from(["flip", "truncate", "empty", "delete", "extend", "swap"]),
        place=st.floats(0, 1, exclude_max=True),
        then=st.sampled_from(["look", "look", "extract", "another recipe"]),
    )
    def damage(self, data: st.DataObject, how: str, place: float, then: str) -> None:
        now = settled_files(self.cache)
        often = [name for name in (PLAN, MANIFEST, ENCODER) if name in now]
        name = data.draw(st.sampled_from([*often, *sorted(now)]))
        path, content = self.cache / name, bytearray(now[name])
        position = int(place * len(content))
        if how == "delete":
            path.unlink()
        elif how == "swap":
            path.write_bytes(now[random.Random(position).choice(sorted(now))])
        else:
            if how == "flip" and content:
                content[position] ^= 1 << position % 8
            path.write_bytes(
                {"truncate": content[:position], "empty": b"", "extend": content + b"\0"}.get(how, content)
            )
        counts["damages"] += 1
        self.disturbed = self.may_be_lost = True
        if self.gone or self.mended or name in (PLAN, MANIFEST, ENCODER) or now != self.written:
            self.comparable = False
        self.read()
        self.verify()
        if then == "extract":
            self._extract()
        elif then == "another recipe":
            self.extract_with_another_recipe()

    @precondition(lambda self: self.may_be_lost and self.written)
    @rule()
    def restore_the_files(self) -> None:
        """From a copy."""
        shutil.rmtree(self.cache)
        for name, content in self.written.items():
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            (self.cache / name).write_bytes(content)
        told = self._told_recipe()
        self.seed = self.seed if told is None else told
        self.disturbed = self.interrupted = self.may_be_lost = False

    # -------------------------------------------------------------------------------------------------- reading

    @rule()
    def read(self) -> None:
        """A finished cache is there until it is replaced or damaged; what is read is right, or it is refused."""
        counts["reads"] += 1
        try:
            found = self._read()
        except CacheError:
            assert self.held is None or self.may_be_lost
            return
        self._assert_right(found)

    @rule(key=st.integers(0, 9), everything=st.booleans())
    def read_a_part(self, key: int, everything: bool) -> None:
        counts["reads"] += 1
        try:
            cache = FeatureCache(self.cache)
            if everything:
                rows, offsets = cache.arrays()
                parts = {name: rows[:, offsets[i] : offsets[i + 1]] for i, name in enumerate(cache.clip_keys)}
            else:
                parts = {name: cache[name] for name in cache.clip_keys[key : key + 1]}
        except CacheError:
            assert self.held is None or self.may_be_lost
            return
        assert all(same(part, embeddings_of(name)) for name, part in parts.items())

    @rule()
    def verify(self) -> None:
        """What it calls fine is right; what is as it was written, it calls fine; a file that was damaged it names."""
        counts["verifications"] += 1
        problems = verify(self.cache)
        if not problems:
            self._assert_right(self._read())
            assert self.interrupted or settled_files(self.cache) == self.written
        elif self.held is not None and settled_files(self.cache) == self.written:
            raise AssertionError(problems)

    def _assert_right(self, found: dict[str, Outcome]) -> None:
        """It is what was held, or what an extraction that was killed had finished."""
        expected = {
            key: [*each, *([self.held.get(key)] if self.held else [])] for key, each in self._expected().items()
        }
        assert self.held is not None or self.disturbed, "nothing was finished"
        for key in found.keys() | (self.held or {}).keys():
            assert any(same(found.get(key), each) for each in expected[key]), key
        if self.held is not None and not self.disturbed:
            assert found.keys() == self.held.keys()
            assert all(same(found[key], outcome) for key, outcome in self.held.items())

    def _read(self) -> dict[str, Outcome]:
        """All that the cache says of clips."""
        cache = FeatureCache(self.cache)
        failed = {failure.key: failure.reason for failure in cache.manifest.failures}
        assert not failed.keys() & set(cache.clip_keys)
        return {**{key: cache[key] for key in cache}, **failed}

    def _told_recipe(self) -> int | None:
        """The seed in the recipe of the cache, as far as a file tells it."""
        for read, place in ((read_plan, self.cache / PLAN), (read_manifest, self.cache)):
            try:
                return int(read(place).recipe.seed)  # type: ignore[operator]
            except CacheError:
                continue
        return None

    def _has_manifest(self) -> bool:
        try:
            return bool(read_manifest(self.cache))
        except CacheError:
            return False

    def _is_damaged(self, name: str) -> bool:
        try:
            return not read_plan(self.cache / name)
        except CacheError:
            return True

    def teardown(self) -> None:
        """At last it is brought to its end; where that is refused, it is replaced."""
        try:
            self._extract()
            if self.disturbed or self.held is None:
                self._extract(overwrite=True)
            expected = self._expected()
            assert self.held is not None
            assert all(any(same(self.held.get(key), each) for each in expected[key]) for key in expected)
        finally:
            self.stack.close()


def run(max_examples: int, steps: int, seed_: int) -> Counter[str]:
    """Try so many histories of so many steps; gives what was done in them. Raises AssertionError where one fails."""
    counts.clear()

    class Machine(CacheMachine):
        pass

    run_state_machine_as_test(
        seed(seed_)(Machine),
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a history that fails is told at once, as it is: to shorten it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    return counts


def test_whatever_happens_to_a_cache_nothing_is_lost_and_nothing_is_wrong() -> None:
    asked = os.environ.get("HAR_CACHE_HISTORIES")
    done = run(int(asked or 16), 40 if asked else 15, int(os.environ.get("HAR_CACHE_SEED", 0)))
    assert done["kills"] and done["damages"] and done["extractions"] and done["reads"]
