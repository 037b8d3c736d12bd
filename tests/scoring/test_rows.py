import pytest

from har_cache.errors import DataError
from har_cache.scoring.rows import ClipNames

NAMES = ClipNames(["run/a.avi", "walk/a.avi", "run/b.avi", "run/x__c.avi"], {"run/x__c.avi": "x/c.avi"}, "the data")


def test_a_file_name_of_several_classes_takes_its_class() -> None:
    assert NAMES.find("run/a.avi", "line 1") == "run/a.avi"
    assert NAMES.find("b.avi", "line 1") == "run/b.avi"
    assert NAMES.find("x/c.avi", "line 1") == "run/x__c.avi"
    with pytest.raises(DataError, match=r"line 7: 'a.avi' may be run/a.avi, walk/a.avi: write <class>/<file name>"):
        NAMES.find("a.avi", "line 7")


@pytest.mark.parametrize("name", ["", "b", "walk/b.avi", "run", "b.avi/"])
def test_what_is_no_clip_is_named(name: str) -> None:
    with pytest.raises(DataError, match=r"line 7: .* is no clip of the data"):
        NAMES.find(name, "line 7")
