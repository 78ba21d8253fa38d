from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.analysis.findings import Weakness, correlation, gains_of, gap, largest_weakness


@pytest.mark.parametrize(
    ("order", "within", "boxes", "weakness"),
    [
        (0.21, 0.122, 0.155, "order of objects"),
        (0.21, 0.19, 0.155, "order within objects"),
        (0.15, 0.13, 0.2, "boxes"),
        (0.123, 0.11, 0.10, None),
    ],
)
def test_the_largest_weakness_is_what_gains_most(
    order: float, within: float, boxes: float, weakness: Weakness | None
) -> None:
    assert largest_weakness(gains_of(0.119, order=order, within=within, boxes=boxes)) == weakness


def test_gains_are_differences_to_the_students_own_score() -> None:
    gains = gains_of(0.2, order=0.5, within=0.3, boxes=0.25)
    assert gains == pytest.approx({"boxes": 0.05, "order within objects": 0.1, "order of objects": 0.2})


@given(st.floats(-1, 1))
def test_a_difference_has_a_sign_and_nothing_is_not_negative(value: float) -> None:
    assert gap(value)[0] in "+-"
    assert gap(value) != "-0.0"
    assert float(gap(value)) == pytest.approx(100 * value, abs=0.051)
    assert correlation(value) != "-0.00"
    assert float(correlation(value)) == pytest.approx(value, abs=0.0051)


def test_what_is_undefined_is_a_dash() -> None:
    assert (gap(None), correlation(None)) == ("–", "–")
