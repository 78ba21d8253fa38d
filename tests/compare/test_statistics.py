from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.compare.statistics import Estimate, estimate, gap_closed, paired_difference, signed_points

SCORES = st.floats(0, 1)
BY_SEED = st.dictionaries(st.integers(0, 5), SCORES, min_size=1, max_size=5)


def test_the_interval_by_hand() -> None:
    """Values 1, 2, 3: standard deviation 1, and Student's t of two degrees of freedom at 97.5 % is 4.302653."""
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.count) == (2.0, 3)
    assert found.high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, None, 1)
    assert estimate([]) is None


def test_what_a_seed_does_to_both_is_not_in_the_difference() -> None:
    """The method is one ahead with every seed, though the seeds differ by ten."""
    found = paired_difference({0: 11.0, 1: 21.0, 2: 31.0, 9: 0.0}, {0: 10.0, 1: 20.0, 2: 30.0, 7: 5.0})
    assert found == Estimate(1.0, 1.0, 1.0, 3)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "holds"),
        (-0.2, -0.1, "fails"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_a_claim_holds_fails_or_is_undecided(low: float | None, high: float | None, verdict: str) -> None:
    assert Estimate(0.1, low, high, 3).verdict == verdict


def test_the_share_of_the_gap() -> None:
    assert gap_closed({0: 0.35, 1: 0.45}, {0: 0.3, 1: 0.4, 2: 0.9}, 0.55) == pytest.approx(0.25)
    assert gap_closed({0: 0.5}, {0: 0.4}, 0.4) is None, "the teacher is not ahead"
    assert gap_closed({0: 0.5}, {0: 0.4}, 0.41) is None, "a share of so little would be noise"
    assert gap_closed({0: 0.5}, {0: 0.4}, None) is None
    assert gap_closed({0: 0.5}, {1: 0.4}, 0.9) is None


@given(values=st.lists(SCORES, min_size=2, max_size=8), shift=st.floats(-1, 1))
def test_the_interval_holds_the_mean_and_moves_with_the_values(values: list[float], shift: float) -> None:
    found, moved = estimate(values), estimate([value + shift for value in values])
    assert found is not None
    assert moved is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.mean <= found.high
    assert moved.low == pytest.approx(found.low + shift, abs=1e-9)
    assert moved.high == pytest.approx(found.high + shift, abs=1e-9)


@given(values=BY_SEED, reference=BY_SEED)
def test_the_difference_changes_its_sign_with_the_sides(values: dict[int, float], reference: dict[int, float]) -> None:
    one, other = paired_difference(values, reference), paired_difference(reference, values)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.mean == pytest.approx(-other.mean)
        assert one.count == other.count == len(values.keys() & reference.keys())


def test_a_difference_in_points() -> None:
    assert signed_points(None) == "–"
    assert signed_points(estimate([0.0123])) == "+1.2"
    assert signed_points(Estimate(-0.0123, -0.02, 0.001, 3)) == "-1.2 [-2.0, +0.1]"
