from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.analysis.differences import AGREED, LevelDifference, LinearFit, prediction_maps
from support.term_cases import grid, output

EVERYWHERE = torch.ones(2, 5, 5, dtype=torch.bool)


def draw(channels: int, seed: int) -> torch.Tensor:
    return torch.randn(2, channels, 5, 5, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), offset=st.floats(-3, 3))
def test_what_a_convolution_can_tell_is_no_difference(seed: int, offset: float) -> None:
    """The teacher's features are a linear map of the student's: whatever scale and channels, F is 0."""
    student = draw(3, seed)
    mixing = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed + 1))
    teacher = torch.einsum("nqhw,dq->ndhw", student, mixing) + offset
    fit = LinearFit(3, 4)
    fit.add(student, teacher, EVERYWHERE)
    assert fit.solve().difference(student, teacher).max() < 1e-3


def test_features_that_have_nothing_to_do_with_another_differ_by_their_variance() -> None:
    student, teacher = torch.zeros(2, 3, 5, 5), 7 * draw(4, 1) + 5
    fit = LinearFit(3, 4)
    fit.add(student, teacher, EVERYWHERE)
    assert fit.solve().difference(student, teacher).mean().item() == pytest.approx(1, abs=1e-3)


def test_cells_that_are_padding_do_not_count_in_the_fit() -> None:
    student, teacher = draw(2, 0), draw(2, 0)
    valid = EVERYWHERE.clone()
    valid[:, :, 4] = False
    fit = LinearFit(2, 2)
    broken = teacher.clone()
    broken[..., 4] = 1e6
    fit.add(student, broken, valid)
    assert fit.solve().difference(student, teacher).max() < 1e-3


def test_without_a_cell_there_is_a_map_all_the_same() -> None:
    found = LinearFit(2, 3).solve()
    assert found.difference(draw(2, 0), torch.zeros(2, 3, 5, 5)).abs().max() == 0


def test_prediction_maps_by_hand() -> None:
    """One cell, two classes: probabilities .5 and .5 beside .75 and .5: P is (.25² + 0) / 2."""
    of = grid((1, 1))
    features = [torch.zeros(1, 1, 1, 1)]
    logit = torch.tensor(0.75).logit()
    own = output(of, features, torch.tensor([[[0.0, 0.0]]]))
    other = output(of, features, torch.stack((logit, torch.tensor(0.0)))[None, None])
    ((guide, largest),) = prediction_maps(own, other)
    assert guide.item() == pytest.approx(0.03125)
    assert largest.item() == pytest.approx(0.25)


def test_a_level_by_hand() -> None:
    """Four cells of F 1, 2, 3 and (padding) 9; the predictions agree in the first two."""
    level = LevelDifference()
    features = torch.tensor([[[1.0, 2.0, 3.0, 9.0]]])
    guide = torch.tensor([[[0.0, 0.1, 0.2, 0.9]]])
    largest = torch.tensor([[[0.0, AGREED, 2 * AGREED, 1.0]]])
    level.add(features, guide, largest, torch.tensor([[[True, True, True, False]]]))
    found = level.summary()
    assert found == {
        "cells": 3,
        "feature_difference": pytest.approx(2),
        "prediction_difference": pytest.approx(0.1),
        "correlation": pytest.approx(1),
        "cells_agreed": pytest.approx(2 / 3),
        "feature_difference_agreed": pytest.approx(0.5),
    }


def test_an_empty_level_is_undefined() -> None:
    assert LevelDifference().summary()["feature_difference"] is None
