from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.report.thinning import averaged, thinned

LINES = st.lists(st.floats(-1e6, 1e6), max_size=60).map(lambda values: [(float(x), y) for x, y in enumerate(values)])


@settings(max_examples=60)
@given(LINES, st.integers(1, 20))
def test_means_keep_number_order_and_mean(points: list[tuple[float, float]], count: int) -> None:
    found = averaged(points, count)
    assert len(found) == min(len(points), count)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    if points and len(points) % count == 0:
        assert sum(y for _, y in found) / len(found) == pytest.approx(sum(y for _, y in points) / len(points), abs=1e-3)


@settings(max_examples=60)
@given(LINES, st.integers(2, 20))
def test_a_thinned_line_keeps_order_and_extremes(points: list[tuple[float, float]], count: int) -> None:
    found = thinned(points, count)
    assert len(found) <= max(count, 0)
    assert set(found) <= set(points)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    if points:
        assert min(y for _, y in found) == min(y for _, y in points)
        assert max(y for _, y in found) == max(y for _, y in points)
