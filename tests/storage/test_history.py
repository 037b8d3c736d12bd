from pathlib import Path

import pytest

from har_cache.errors import RunError
from har_cache.storage.history import add_event, evaluated_on, read_history


def test_what_was_finished_is_kept_with_its_time_and_machine(tmp_path: Path) -> None:
    assert read_history(tmp_path) == {}
    add_event(tmp_path, "trained", 12.34, "a GPU")
    add_event(tmp_path, evaluated_on(2), 1.0)
    add_event(tmp_path, evaluated_on(2), 2.0)
    found = read_history(tmp_path)
    assert list(found) == ["trained", "evaluated on split 2"]
    assert (found["trained"].seconds, found["trained"].gpu) == (12.3, "a GPU")
    assert (found["evaluated on split 2"].seconds, found["evaluated on split 2"].gpu) == (2.0, None)
    assert found["trained"].cores >= 1 and len(found["trained"].at) == len("2026-01-31 09:05")


@pytest.mark.parametrize("change", [lambda text: text[:-2], lambda text: text.replace("12.0", "13.0"), lambda text: ""])
def test_a_damaged_history_says_what_to_do(tmp_path: Path, change) -> None:
    add_event(tmp_path, "trained", 12.0)
    file = tmp_path / "history.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(RunError, match=r"history\.json: .*; remove it: no figure rests on it") as raised:
        read_history(tmp_path)
    assert "\n" not in str(raised.value)
