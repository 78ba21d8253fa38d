"""The class list beside PASCAL VOC's folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DataError
from detdistill.data.labelmap import LABELMAP, read_labelmap, write_labelmap

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, unique=True, max_size=5))
def test_classes_and_their_order_are_kept(tmp_path: Path, classes: list[str]) -> None:
    write_labelmap(tmp_path, classes)
    assert read_labelmap(tmp_path) == classes


def test_a_file_of_cvat_is_read_without_the_background(tmp_path: Path) -> None:
    text = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntraffic light:220,0,0::\n\n# old\ncat:1,2,3:head:\nant\n"
    )
    (tmp_path / LABELMAP).write_text(text)
    assert read_labelmap(tmp_path) == ["traffic light", "cat", "ant"]


def test_a_folder_without_the_file_has_no_list(tmp_path: Path) -> None:
    assert read_labelmap(tmp_path) == []


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / LABELMAP).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=LABELMAP):
        read_labelmap(tmp_path)
