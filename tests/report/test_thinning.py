from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detdistill.report.thinning import averaged, thinned

LINES = st.lists(st.floats(-1e6, 1e6), max_size=60).map(
    lambda values: np.array([(float(x), y) for x, y in enumerate(values)]).reshape(-1, 2)
)


@settings(max_examples=60)
@given(LINES, st.integers(1, 20))
def test_means_keep_number_order_and_mean(points: NDArray[np.float64], count: int) -> None:
    found = averaged(points, count)
    assert len(found) == min(len(points), count)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    if len(points) and len(points) % count == 0:
        assert sum(y for _, y in found) / len(found) == pytest.approx(points[:, 1].mean(), abs=1e-3)


@settings(max_examples=60)
@given(LINES, st.integers(2, 20))
def test_a_thinned_line_keeps_order_and_extremes(points: NDArray[np.float64], count: int) -> None:
    found = thinned(points, count)
    assert len(found) <= count
    assert set(found) <= set(map(tuple, points.tolist()))
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    if len(points):
        assert min(y for _, y in found) == points[:, 1].min()
        assert max(y for _, y in found) == points[:, 1].max()
