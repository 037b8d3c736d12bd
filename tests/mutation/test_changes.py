import ast
import random
from pathlib import Path

import har_cache

from .changes import count_places, mutant

SOURCE = '''
"""Not here: 1 < 2."""


def least(values: "list[int] | None", most: int = 3) -> int:
    """Nor here."""
    if not values or len(values) > most:
        raise ValueError(f"{len(values) + 1} values")
    found = min(values)
    values.clear()
    return sum(values[1:], start=found)
'''


def mutants(source: str) -> set[str]:
    """What changes in all places give, in all ways that some seeds draw."""
    places = range(count_places(source))
    return {mutant(source, place, random.Random(seed)).what for place in places for seed in range(9)}


def test_faults_are_in_the_code_and_nowhere_else() -> None:
    assert mutants(SOURCE) == {
        "3 -> 4",
        "3 -> 2",
        "not values -> values",
        "not values or len(values) > most -> not values and len(values) > most",
        "not values or len(values) > most -> not (not values or len(values) > most)",
        "not values or len(values) > most -> True",
        "len(values) > most -> len(values) >= most",
        "len(values) > most -> len(values) <= most",
        "raise ValueError(f'{len(values) + 1} values') -> pass",
        "min(values) -> max(values)",
        "values.clear() -> pass",
        "1: -> :",
        "1 -> 2",
        "1 -> 0",
        "sum(values[1:], start=found) -> sum(values[1:])",
        "return sum(values[1:], start=found) -> return None",
    }


def test_each_fault_is_another_module_that_python_reads() -> None:
    source = (Path(har_cache.__file__).with_name("storage") / "files.py").read_text()
    right = ast.unparse(ast.parse(source))
    for place in range(0, count_places(source), 11):
        drawn = mutant(source, place, random.Random(place))
        ast.parse(drawn.source)
        assert drawn.source != right and drawn == mutant(source, place, random.Random(place))
        assert 0 < drawn.where[0] <= source.count("\n")
