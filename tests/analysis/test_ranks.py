from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from detdistill.analysis.ranks import agreement, best, divergence, padded
from detdistill.losses.rank import rank_mimicking

# Few different values: ties are the hard part.
LISTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9)


def test_lists_of_several_objects_stand_side_by_side() -> None:
    lists, mask = padded(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 2, 2]), 4)
    assert lists.tolist() == [[1, 0], [0, 0], [2, 3], [0, 0]]
    assert mask.tolist() == [[True, False], [False, False], [True, True], [False, False]]
    lists, mask = padded(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0)
    assert lists.shape == mask.shape == (0, 0)


@pytest.mark.filterwarnings("ignore:An input array is constant")
@given(pairs=LISTS)
def test_equal_to_scipy(pairs: list[tuple[int, int]]) -> None:
    first, second = (torch.tensor(values, dtype=torch.float32)[None] for values in zip(*pairs, strict=True))
    found = agreement(first, second, torch.ones_like(first, dtype=torch.bool))
    with np.errstate(all="ignore"):
        tau, rho = (float(of(first[0].numpy(), second[0].numpy()).statistic) for of in (kendalltau, spearmanr))
    assert found.tau.item() == pytest.approx(tau, nan_ok=True, abs=1e-6)
    assert found.rho.item() == pytest.approx(rho, nan_ok=True, abs=1e-6)


@given(pairs=LISTS, padding=st.integers(1, 3))
def test_padding_changes_nothing(pairs: list[tuple[int, int]], padding: int) -> None:
    first, second = (torch.tensor(values, dtype=torch.float32)[None] for values in zip(*pairs, strict=True))
    mask = torch.ones_like(first, dtype=torch.bool)
    longer = [torch.nn.functional.pad(each, (0, padding), value=7) for each in (first, second)]
    longer_mask = torch.nn.functional.pad(mask, (0, padding), value=False)
    alone, beside = agreement(first, second, mask), agreement(longer[0], longer[1], longer_mask)
    torch.testing.assert_close(alone.tau, beside.tau, equal_nan=True)
    torch.testing.assert_close(alone.rho, beside.rho, equal_nan=True)
    torch.testing.assert_close(divergence(first, second, mask), divergence(longer[0], longer[1], longer_mask))


def test_one_candidate_has_no_order() -> None:
    found = agreement(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([[True, False]]))
    assert math.isnan(found.tau.item())
    assert math.isnan(found.rho.item())
    assert divergence(torch.tensor([[1.0]]), torch.tensor([[5.0]]), torch.tensor([[True]])).item() == 0


def test_the_divergence_is_rank_mimickings_loss() -> None:
    own, other = torch.tensor([[-2.0, 0.0, 2.0], [0.0, 0.0, 9.0]]), torch.tensor([[2.0, 0.0, -2.0], [1.0, 0.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    each = divergence(own, other, mask)
    assert each.tolist() == pytest.approx([3.403748, 0.110944], abs=1e-5), "METHODS' examples R2 and R3"
    objects = torch.tensor([0, 0, 0, 1, 1])
    torch.testing.assert_close(rank_mimicking(own[mask], other[mask], objects), each.mean())


def test_the_best_of_a_list_is_none_that_is_padding() -> None:
    assert best(torch.tensor([[-3.0, -2.0, 0.0]]), torch.tensor([[True, True, False]])).item() == 1
    assert best(torch.tensor([[1.0, 1.0]]), torch.tensor([[True, True]])).item() == 0


def test_many_long_lists_are_worked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(scores, dtype=torch.bool)
    whole = agreement(scores, scores.flip(1), mask)
    monkeypatch.setattr("detdistill.analysis.ranks.PAIRS_AT_A_TIME", 100)
    torch.testing.assert_close(agreement(scores, scores.flip(1), mask).tau, whole.tau)
