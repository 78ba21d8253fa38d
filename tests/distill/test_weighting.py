from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.distill.weighting import CALIBRATION_STEPS, MEASURED_EVERY, Weight, Weighting

TOTAL, WARMUP = 1000, 20
END = WARMUP + CALIBRATION_STEPS


def run(weighting: Weighting, lengths: Mapping[int, float], start: int = 0, stop: int = END + 5) -> list[float]:
    """Steps in which the detection loss's gradient has length 1, and term `a`'s that of its step, else 1."""
    used = []
    for step in range(start, stop):
        weighting.begin_step(step, TOTAL, WARMUP)
        used.append(weighting.weight("a"))
        if weighting.is_measuring:
            weighting.measure(1.0, {"a": lengths.get(step, 1.0)})
    return used


def measuring_steps(weighting: Weighting) -> list[int]:
    steps = []
    for step in range(END + 20):
        weighting.begin_step(step, TOTAL, WARMUP)
        if weighting.is_measuring:
            steps.append(step)
            weighting.measure(1.0, {"a": 1.0})
    return steps


def test_the_phases_of_an_automatic_weight() -> None:
    weighting = Weighting({"a": Weight(ratio=0.5)})
    # Until the calibration ends, the weight is the median of the last three: 0.5 / 0.25 at first, 0.5 / 1 later.
    used = run(weighting, {0: 0.25, 5: 0.25, WARMUP: 0.001})
    assert used[0] == 0
    expected = [(2.0 if step <= 15 else 0.5) * step / WARMUP for step in range(1, WARMUP)]
    assert used[1:WARMUP] == pytest.approx(expected)
    assert used[WARMUP : END + 5] == [0.5] * (CALIBRATION_STEPS + 5), "one outlier changes nothing"
    assert weighting.terms["a"].is_fixed


def test_gradients_are_measured_in_each_fifth_step_until_the_calibration_ends() -> None:
    assert measuring_steps(Weighting({"a": Weight()})) == list(range(0, END, MEASURED_EVERY))


def test_a_weight_follows_gradients_that_change_in_the_warmup() -> None:
    """A new detector's gradient grows; a weight of the first step would have stayed 20 times too large."""
    weighting = Weighting({"a": Weight(ratio=0.5)})
    for step in range(200):
        weighting.begin_step(step, 2000, 100)
        term = min(1.0, 0.05 + step / 50)
        if weighting.is_measuring:
            weighting.measure(1.0, {"a": term})
        if step >= 10:
            assert weighting.weight("a") * term <= 1.0, "at most twice the ratio"


def test_the_median_of_the_calibration_counts() -> None:
    weighting = Weighting({"a": Weight(ratio=1.0)})
    steps = range(WARMUP, END, MEASURED_EVERY)
    run(weighting, {step: 1.0 / place for place, step in enumerate(steps, start=1)})
    assert weighting.terms["a"].value == pytest.approx(5.5)  # of 1 to 10


def test_the_calibration_of_a_short_run_is_a_tenth_of_it() -> None:
    weighting = Weighting({"a": Weight()})
    for step in range(10):
        weighting.begin_step(step, 40, 2)
        assert weighting.terms["a"].is_fixed == (step >= 2 + 4)
        if weighting.is_measuring:
            weighting.measure(1.0, {"a": 1.0})


def test_without_a_warmup_the_first_step_counts_too() -> None:
    weighting = Weighting({"a": Weight(ratio=1.0)})
    weighting.begin_step(0, 2, 0)
    weighting.measure(3.0, {"a": 1.0})
    assert weighting.weight("a") == 0, "it does not change within a step"
    weighting.begin_step(1, 2, 0)
    assert weighting.weight("a") == 3.0


def test_a_number_is_used_as_it_is_from_the_first_step() -> None:
    weighting = Weighting({"a": Weight(4.0)})
    assert weighting.weight("a") == 4.0
    assert measuring_steps(weighting) == []
    assert run(weighting, {}) == [4.0] * (END + 5)


@pytest.mark.parametrize(("decay", "half"), [("none", 2.0), ("linear", 1.0), ("cosine", 1.0)])
def test_decay(decay: Any, half: float) -> None:
    weighting = Weighting({"a": Weight(2.0, decay=decay)})
    weights = []
    for step in (0, TOTAL // 2, TOTAL - 1):
        weighting.begin_step(step, TOTAL, WARMUP)
        weights.append(weighting.weight("a"))
    assert weights[:2] == pytest.approx([2.0, half])
    assert (weights[2] < 0.01) == (decay != "none")


def test_a_term_without_a_gradient_is_measured_as_soon_as_it_has_one() -> None:
    weighting = Weighting({"a": Weight(ratio=1.0)})
    nothing = dict.fromkeys(range(END + 3), 0.0)
    used = run(weighting, nothing | {END + 3: 0.5}, stop=END + 5)
    assert used[: END + 4] == [0.0] * (END + 4)
    assert used[END + 4] == 2.0
    assert weighting.terms["a"].is_fixed


@pytest.mark.parametrize(("detection", "term"), [(float("inf"), 1.0), (1.0, float("nan")), (float("nan"), 1.0)])
def test_what_is_not_finite_is_not_measured(detection: float, term: float) -> None:
    weighting = Weighting({"a": Weight()})
    weighting.begin_step(0, TOTAL, 0)
    weighting.measure(detection, {"a": term})
    assert weighting.state() == {"a": {"value": 0.0, "is_fixed": False, "recent": [], "measured": []}}


@given(st.integers(0, END + 4), st.lists(st.floats(0.01, 100), min_size=END + 5, max_size=END + 5))
def test_a_run_taken_up_in_the_middle_goes_on_the_same(stop: int, lengths: list[float]) -> None:
    given_lengths = dict(enumerate(lengths))
    whole, first, second = (Weighting({"a": Weight()}) for _ in range(3))
    used = run(whole, given_lengths)
    before = run(first, given_lengths, stop=stop)
    second.load(first.state())
    assert before + run(second, given_lengths, start=stop) == used
    assert second.state() == whole.state()


def test_a_changed_number_and_another_term_are_not_overruled_by_the_state_before() -> None:
    before = Weighting({"a": Weight(3.0), "b": Weight(), "c": Weight()})
    before.begin_step(0, TOTAL, 0)
    before.measure(1.0, {"b": 1.0, "c": 0.25})
    before.begin_step(1, TOTAL, 0)
    after = Weighting({"a": Weight(), "b": Weight(7.0), "c": Weight()})
    after.load(before.state())
    assert [after.terms[name].value for name in "abc"] == [0.0, 7.0, 2.0]
    assert not after.terms["a"].is_fixed


def test_a_ramp_delays_a_weight() -> None:
    weighting = Weighting({"a": Weight(2.0, ramp=0.5)})
    weights = []
    for step in (0, 25, 50, 99):
        weighting.begin_step(step, 100, 0)
        weights.append(weighting.weight("a"))
    assert weights == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("weight", [Weight(), Weight(1.0, decay="linear"), Weight(1.0, ramp=0.1)])
def test_a_weight_that_depends_on_the_step_needs_one(weight: Weight) -> None:
    with pytest.raises(DetdistillError, match=r"the weight of a depends on the step: call begin_step\(step, total"):
        Weighting({"a": weight}).weight("a")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"value": -1.0}, "weight must be a number of at least 0, not -1.0"),
        ({"value": float("inf")}, "weight must be a number of at least 0, not inf"),
        ({"value": True}, "weight must be a number of at least 0, not True"),
        ({"ratio": 0}, "ratio must be a number above 0, not 0"),
        ({"ramp": 1.5}, r"ramp must be a number from 0 to 1, not 1\.5"),
        ({"decay": "exp"}, "decay must be one of none, linear, cosine, not 'exp'"),
    ],
)
def test_values_that_cannot_be(values: dict[str, Any], said: str) -> None:
    with pytest.raises(DetdistillError, match=said):
        Weight(**values)
