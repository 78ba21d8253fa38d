from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.losses.relations import relation_imitation


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_by_hand() -> None:
    """Distances 1, 3, 2 are in proportion .5, 1.5, 1; distances 1, 2, 1 are .75, 1.5, .75."""
    assert relation_imitation(column(0, 1, 2), column(0, 1, 3)).item() == pytest.approx(0.25**2 / 2 * 2 / 3)
    assert relation_imitation(column(0, 1, 2), column(0, 1, 3)).item() == pytest.approx(0.0208333, abs=1e-7)


def test_a_distance_of_0_counts_but_not_in_the_mean() -> None:
    """Student: 0, 2, 2 over the mean 2. Teacher: 1, 2, 1 over 4/3."""
    loss = relation_imitation(column(1, 1, 3), column(0, 1, 2))
    assert loss.item() == pytest.approx((0.75**2 + 0.5**2 + 0.25**2) / 2 / 3)


@st.composite
def things(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    count, depth = draw(st.integers(3, 7)), draw(st.integers(1, 5))
    student, teacher = (torch.randn(count, depth, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@given(things=things(), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_it_is_the_definition_and_only_proportions_count(
    things: tuple[Tensor, Tensor], scale: float, shift: float
) -> None:
    student, teacher = things
    count = len(student)
    proportions = []
    for side in things:
        distances = torch.tensor([[float((a - b).norm()) for b in side] for a in side])
        proportions.append(distances / distances[distances > 0].mean())
    difference = (proportions[0] - proportions[1]).abs()
    by_pair = torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    loss = relation_imitation(student, teacher)
    assert loss.item() == pytest.approx(by_pair.sum().item() / (count**2 - count), rel=1e-5, abs=1e-7)
    assert relation_imitation(scale * student + shift, teacher).item() == pytest.approx(loss.item(), abs=1e-9)
    assert relation_imitation(scale * teacher + shift, teacher).item() == pytest.approx(0, abs=1e-9)
    order = torch.randperm(count)
    assert relation_imitation(student[order], teacher[order]).item() == pytest.approx(loss.item(), abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_relate_to_nothing(count: int) -> None:
    student = torch.rand(count, 4, requires_grad=True)
    loss = relation_imitation(student, torch.rand(count, 4))
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, student)[0], torch.zeros(count, 4))


def test_things_that_are_all_the_same_have_a_finite_gradient() -> None:
    student = torch.ones(4, 3, requires_grad=True)
    loss = relation_imitation(student, torch.rand(4, 3))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
