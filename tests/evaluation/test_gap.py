from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.evaluation.gap import LEAST_GAP, share_closed


def test_by_hand() -> None:
    assert share_closed(0.45, start=0.4, teacher=0.6) == pytest.approx(0.25)
    assert share_closed(0.35, start=0.4, teacher=0.6) == pytest.approx(-0.25), "a step back"


@pytest.mark.parametrize("teacher", [0.3, 0.4, 0.41])
def test_no_share_of_a_gap_that_is_none_or_noise(teacher: float) -> None:
    assert share_closed(0.5, start=0.4, teacher=teacher) is None


@given(start=st.floats(0, 1), gap=st.floats(2 * LEAST_GAP, 1))
def test_from_start_to_teacher(start: float, gap: float) -> None:
    assert share_closed(start, start=start, teacher=start + gap) == 0
    assert share_closed(start + gap, start=start, teacher=start + gap) == pytest.approx(1)
