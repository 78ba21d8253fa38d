from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.analysis.tally import Moments, Tally

NUMBERS = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=20)


def test_means_by_group_leave_out_what_is_undefined() -> None:
    tally = Tally()
    small, large = ("size", "small"), ("size", "large")
    for _ in range(2):
        groups = {small: torch.tensor([True, True, False]), large: torch.tensor([False, False, True])}
        tally.add(groups, {"tau": torch.tensor([0.5, torch.nan, torch.nan]), "top1": torch.tensor([1.0, 0.0, 1.0])})
    assert tally.mean(small, "tau") == 0.5
    assert tally.mean(large, "tau") is None
    assert tally.table(["tau", "top1"]) == {
        small: {"objects": 4, "tau": 0.5, "top1": 0.5},
        large: {"objects": 2, "tau": None, "top1": 1.0},
    }


def test_groups_without_members_are_left_out() -> None:
    tally = Tally()
    tally.add({("class", "cat"): torch.zeros(2, dtype=torch.bool)}, {"tau": torch.ones(2)})
    assert tally.table(["tau"]) == {}


@given(pairs=NUMBERS)
def test_the_correlation_is_numpys_in_however_many_parts(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    moments = Moments()
    for part in (slice(0, 2), slice(2, None)):
        moments.add(torch.from_numpy(first[part].copy()), torch.from_numpy(second[part].copy()))
    if first.std() > 1e-3 and second.std() > 1e-3:
        assert moments.correlation == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-6)


def test_what_never_changes_has_no_correlation() -> None:
    moments = Moments()
    assert moments.correlation is None
    moments.add(torch.full((5,), 3.0), torch.arange(5.0))
    assert moments.correlation is None
