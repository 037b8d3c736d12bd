"""Files of caches and runs with a bit flipped, cut, emptied, lengthened, gone, or with another file's content: each is
found, and a figure or an embedding is what it was, or there is none.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_cache import FeatureCache
from har_cache.cache.verify import verify
from har_cache.errors import HarCacheError
from har_cache.evaluation.evaluate import evaluate
from har_cache.evaluation.results import read_evaluation
from har_cache.extraction.extract import extract
from har_cache.pages.report import report
from har_cache.settings.evaluation import EvaluateSettings
from har_cache.settings.extraction import ExtractSettings

from ..conftest import contents
from .trial import Problem, Trial

_HEALED = 8  # of so many damages of a cache, one is mended by an extraction


def _flip(data: bytes, rng: random.Random, other: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _zeros(data: bytes, rng: random.Random, other: bytes) -> bytes:
    place, length = rng.randrange(len(data)), rng.randrange(1, 4096)
    return data[:place] + bytes(len(data[place : place + length])) + data[place + length :]


KINDS: dict[str, Callable[[bytes, random.Random, bytes], bytes | None]] = {
    "a bit flipped": _flip,
    "a run of zeros": _zeros,
    "cut": lambda data, rng, other: data[: rng.randrange(1, len(data))],
    "emptied": lambda data, rng, other: b"",
    "a byte more": lambda data, rng, other: data + bytes([rng.randrange(256)]),
    "another file's content": lambda data, rng, other: other,
    "gone": lambda data, rng, other: None,
}


@dataclass(frozen=True)
class Damages:
    """Damages of copies of a world's cache and run, in a folder. `settings`: those that made the cache."""

    world: Path
    folder: Path
    seed: int

    def of_caches(self, count: int) -> Iterator[Trial]:
        """Damage each file of the cache in turn."""
        cache = Path(shutil.copytree(self.world / "cache", self.folder / "cache"))
        before = contents(cache)
        truth = FeatureCache(cache).arrays()[0]
        for number, (name, kind, data) in enumerate(self._drawn(before, count)):
            _put(cache / name, data)
            problem = _of_cache(cache, name, before[name] == data, truth)
            if not problem and number % _HEALED == 0:
                problem = self._healed(cache, name, before)
            _put(cache / name, before[name])
            if problem or contents(cache) != before:
                shutil.rmtree(cache)
                shutil.copytree(self.world / "cache", cache)
            yield self._trial(f"cache: {kind}", name, number, problem)

    def of_runs(self, count: int) -> Iterator[Trial]:
        """Damage each file of an evaluated run in turn."""
        for name in ("cache", "evaluated"):
            shutil.copytree(self.world / name, self.folder / "of_runs" / name.replace("evaluated", "run"))
        run = self.folder / "of_runs" / "run"
        before = contents(run)
        cache = self.folder / "of_runs" / "cache"
        truths = {what: what(run, cache) for what in (_figures, _page, _anew)}
        for number, (name, kind, data) in enumerate(self._drawn(before, count)):
            _put(run / name, data)
            problem = _of_run(run, cache, truths)
            shutil.rmtree(run)
            for each, content in before.items():
                (run / each).parent.mkdir(parents=True, exist_ok=True)
                (run / each).write_bytes(content)
            yield self._trial(f"run: {kind}", name, number, problem)

    def _drawn(self, files: dict[str, bytes], count: int) -> Iterator[tuple[str, str, bytes | None]]:
        """File, kind of damage, content; half of them flipped bits."""
        rng, names = random.Random(self.seed), sorted(files)
        for number in range(count):
            name = names[number % len(names)]
            kind = "a bit flipped" if number // len(names) % 2 == 0 else rng.choice(list(KINDS))
            yield name, kind, KINDS[kind](files[name], rng, files[rng.choice([n for n in names if n != name])])

    def _healed(self, cache: Path, name: str, before: dict[str, bytes]) -> Problem | None:
        """An extraction leaves what was there, or refuses with a way out."""
        options = {"weights": "random", "projection": "random", "precision": "fp32", "shard_clips": 2, "workers": 2}
        try:
            extract(ExtractSettings(data=self.world / "data", cache=cache, **options))
        except HarCacheError as error:
            return None if "--overwrite" in str(error) and name == "encoder.safetensors" else ("lost", str(error))
        except Exception as error:
            return "traceback", repr(error)
        after = contents(cache)
        other = [file for file in {*before, *after} if before.get(file) != after.get(file)]
        return ("wrong", f"{', '.join(other)} differ after an extraction") if other else None

    def _trial(self, kind: str, name: str, number: int, problem: Problem | None) -> Trial:
        if not problem:
            return Trial(kind, name, "survived")
        return Trial(kind, name, problem[0], f"{problem[1]} ({name}, damage {number}, seed {self.seed})")


def _put(path: Path, data: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)


def _of_cache(cache: Path, name: str, same: bool, truth: np.ndarray) -> Problem | None:
    try:
        found = verify(cache)
        if not found and not same:
            return "wrong", "verify found nothing"
        if any("\n" in line for line in found):
            return "traceback", f"not in one line: {found}"
    except Exception as error:
        return "traceback", f"verify: {error!r}"
    try:
        reader = FeatureCache(cache)
        arrays = reader.arrays()[0]
        first = reader[reader.clip_keys[0]]
    except HarCacheError:
        return None
    except Exception as error:
        return "traceback", f"FeatureCache: {error!r}"
    right = np.array_equal(arrays, truth) and np.array_equal(first, truth[:, : first.shape[1]])
    return None if right else ("wrong", "other embeddings were read")


def _of_run(run: Path, cache: Path, truths: Mapping[Callable[[Path, Path], object], object]) -> Problem | None:
    """Reading the evaluation, the page, and evaluating anew."""
    for what, truth in truths.items():
        try:
            found = what(run, cache)
        except HarCacheError as error:
            if "\n" in str(error):
                return "traceback", f"not in one line: {error}"
            continue
        except Exception as error:
            return "traceback", f"{what.__name__}: {error!r}"
        if found != truth:
            return "wrong", f"{what.__name__}: other figures"
    return None


def _figures(run: Path, cache: Path) -> object:
    found = read_evaluation(run / "evaluate" / "split1")
    return found.metrics, tuple(found.predictions)


def _page(run: Path, cache: Path) -> None:
    report(run)


def _anew(run: Path, cache: Path) -> object:
    (found,) = evaluate(EvaluateSettings(run=run, cache=cache, device="cpu"))
    return found.metrics, tuple(found.predictions)
