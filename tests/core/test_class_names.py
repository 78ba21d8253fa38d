from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.class_names import class_table
from detdistill.core.errors import DetdistillError


@given(st.dictionaries(st.integers() | st.text(), st.integers() | st.text()))
def test_whole_numbers_stand_for_their_digits(table: dict[Any, Any]) -> None:
    if len({str(key) for key in table}) < len(table):
        with pytest.raises(DetdistillError):
            class_table(table)
    else:
        assert class_table(table) == {str(key): str(value) for key, value in table.items()}


@pytest.mark.parametrize("table", [{False: "a"}, {"a": True}, {1.5: "a"}, {"a": None}, {("a",): "b"}])
def test_other_values_are_no_names(table: dict[Any, Any]) -> None:
    with pytest.raises(DetdistillError, match="class_map"):
        class_table(table)
