import pytest
from hypothesis import given
from hypothesis import strategies as st

from har_cache.data.keys import source_of

words = st.text("abc_", min_size=1)


@pytest.mark.parametrize(
    ("class_name", "file_name", "source"),
    [
        ("climb", "Dan_Osman_climb_f_cm_np1_le_med_2.avi", "climb/Dan_Osman"),
        ("pour", "How_to_pour_wine_pour_u_nm_np1_fr_goo_0.avi", "pour/How_to_pour_wine"),
        ("pour", "a_pour_pour_u.avi", "pour/a_pour"),
        ("brush_hair", "Brushing_Hair_II_brush_hair_u_nm_np2_le_med_2.avi", "brush_hair/Brushing_Hair_II"),
        ("Archery", "v_Archery_g08_c02.avi", "Archery/v_Archery_g08"),
        ("HandstandPushups", "v_HandStandPushups_g01_c03.avi", "HandstandPushups/v_HandStandPushups_g01"),
        ("climb", "holiday.2024.mp4", "climb/holiday.2024"),
        ("climb", "_climb_f.avi", "climb/_climb_f"),
        ("climb", "climb_f.avi", "climb/climb_f"),
    ],
)
def test_source_of(class_name: str, file_name: str, source: str) -> None:
    assert source_of(f"{class_name}/{file_name}") == source


@given(source=words, class_name=words, tags=st.text("fcmnp012", max_size=5))
def test_source_stands_before_the_last_class(source: str, class_name: str, tags: str) -> None:
    assert source_of(f"{class_name}/{source}_{class_name}_{tags}.avi").startswith(f"{class_name}/{source}")
    # Only a class that overlaps itself could match later than where it was put.
    if "_" not in class_name:
        assert source_of(f"{class_name}/{source}_{class_name}_{tags}.avi") == f"{class_name}/{source}"
