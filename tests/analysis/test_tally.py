from __future__ import annotations

from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from detdistill.analysis.tally import Estimate, MeanOverImages, Moments, Tally

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


TAUS = st.lists(st.lists(st.floats(-1, 1, width=32), max_size=4), min_size=2, max_size=8)
"""Values of the objects of each image."""


def mean_of(images: list[list[float]], batches: int = 1) -> MeanOverImages:
    found = MeanOverImages()
    for batch in (images[start::batches] for start in range(batches)):
        values = torch.tensor([value for image in batch for value in image])
        found.add(
            values, torch.tensor([number for number, image in enumerate(batch) for _ in image], dtype=torch.int64)
        )
    return found


@given(values=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20))
def test_with_one_object_an_image_the_interval_is_the_usual_one(values: list[float]) -> None:
    found = mean_of([[value] for value in values]).estimate()
    assert found.mean == pytest.approx(fmean(values), abs=1e-7)
    half = t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    assert found.low == pytest.approx(fmean(values) - half, abs=1e-5)
    assert found.high == pytest.approx(fmean(values) + half, abs=1e-5)
    assert found.objects == len(values)


def test_objects_of_one_image_are_no_independent_draws() -> None:
    """Two images, in each of which all objects have one value: ten times as many objects make no narrower interval.

    By hand: the mean is 0, each image's residual sum is n or -n, so the variance is (2 n² · 2 / 1) / (2 n)² = 1.
    """
    few, many = (mean_of([[1.0] * count, [-1.0] * count]).estimate() for count in (1, 10))
    half = float(t.ppf(0.975, 1))
    for found in (few, many):
        assert (found.mean, found.low, found.high) == pytest.approx((0, -half, half))
    assert (few.objects, many.objects) == (2, 20)


@given(images=TAUS, batches=st.integers(2, 4))
def test_batches_change_no_interval(images: list[list[float]], batches: int) -> None:
    whole, parts = mean_of(images).estimate(), mean_of(images, batches).estimate()
    assert whole.objects == parts.objects == sum(map(len, images))
    for name in ("mean", "low", "high"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-5)


def test_an_interval_needs_two_images_and_leaves_out_what_is_undefined() -> None:
    assert mean_of([[], []]).estimate() == Estimate()
    assert mean_of([[0.5, 0.75], [float("nan")]]).estimate() == Estimate(0.625, objects=2)
    assert mean_of([[0.5, float("nan")], [0.5]]).estimate() == Estimate(0.5, 0.5, 0.5, 2)
