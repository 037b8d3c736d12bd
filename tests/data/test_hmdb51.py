import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.data.hmdb51 import CLASSES, CLIPS, TAG_WORDS, Tags, parse_tags
from har_cache.data.splits import read_list

from ..helpers.shared import OFFICIAL_LISTS

tags = st.builds(
    Tags,
    people=st.integers(0, 999),
    **{field: st.sampled_from(list(words)) for field, words in TAG_WORDS.items()},
)


@given(tags, st.text(min_size=1), st.sampled_from(["climb", "brush_hair", "pour"]), st.integers(0, 500))
def test_tags_round_trip(expected: Tags, source: str, class_name: str, number: int) -> None:
    t = expected
    name = f"{source}_{class_name}_{t.body}_{t.camera}_np{t.people}_{t.viewpoint}_{t.quality}_{number}.avi"
    assert parse_tags(class_name, name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "v_Archery_g08_c02.avi",
        "holiday.mp4",
        "",
        "x_climb_f_nm_np1_fr_med.avi",
        "x_climb_f_nm_np1_fr_med_2",
        "x_climb_z_nm_np1_fr_med_2.avi",
        "x_climb_f_nm_np_fr_med_2.avi",
        "x_climb_f_nm_np\u00b2_fr_med_2.avi",
        "x_walk_f_nm_np1_fr_med_2.avi",
        "_climb_f_nm_np1_fr_med_2.avi",
    ],
)
def test_names_without_tags(name: str) -> None:
    assert parse_tags("climb", name) is None


def test_class_in_the_title() -> None:
    name = "How_to_pour_f_cm_np9_ba_bad_7_pour_u_nm_np1_fr_goo_0.avi"
    assert parse_tags("pour", name) == Tags("u", "nm", 1, "fr", "goo")


def test_every_code_has_its_own_words() -> None:
    assert set(TAG_WORDS) | {"people"} == set(Tags.__dataclass_fields__)
    assert all(len(set(words.values())) == len(words) for words in TAG_WORDS.values())
    assert TAG_WORDS["viewpoint"] == {"fr": "front", "ba": "back", "le": "left", "ri": "right"}
    assert TAG_WORDS["quality"] == {"goo": "good", "med": "medium", "bad": "bad"}
    assert TAG_WORDS["body"] == {"f": "full body", "u": "upper body", "h": "head", "l": "lower body"}
    assert TAG_WORDS["camera"] == {"cm": "camera moves", "nm": "camera still"}


@pytest.mark.skipif(not OFFICIAL_LISTS.is_dir(), reason="the official lists of HMDB51 are not here")
def test_every_official_name_carries_tags() -> None:
    lists = list(OFFICIAL_LISTS.iterdir())
    names = {(path.name.rpartition("_test_split")[0], name) for path in lists for name in read_list(path)}
    assert (len(lists), len(names)) == (3 * CLASSES, CLIPS)
    assert all(parse_tags(*name) for name in names)
