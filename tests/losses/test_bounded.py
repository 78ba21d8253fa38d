from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.losses.bounded import teacher_bounded_regression

NUMBERS = st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4)


@pytest.mark.parametrize(
    ("student", "teacher", "margin", "expected"),
    [
        (0.3, 0.1, 0.0, 0.09),
        (0.05, 0.1, 0.0, 0.0),
        (0.05, 0.1, 0.008, 0.0025),  # .0025 + .008 > .01
        (0.05, 0.1, 0.007, 0.0),
        (0.1, 0.1, 0.0, 0.0),
    ],
)
def test_by_hand(student: float, teacher: float, margin: float, expected: float) -> None:
    """The target is 0."""
    own = torch.tensor([[student]], dtype=torch.float64, requires_grad=True)
    other, target = torch.tensor([[teacher]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    loss = teacher_bounded_regression(own, other, target, margin)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    assert gradient.item() == pytest.approx(2 * student if expected else 0)


@given(student=NUMBERS, teacher=NUMBERS, target=NUMBERS, margin=st.floats(0, 2), shift=st.floats(-2, 2))
def test_only_errors_count_and_only_those_above_the_teachers(
    student: list[float], teacher: list[float], target: list[float], margin: float, shift: float
) -> None:
    own, other, goal = (torch.tensor(values, dtype=torch.float64) for values in (student, teacher, target))
    loss = teacher_bounded_regression(own, other, goal, margin).item()
    error, bound = float(((own - goal) ** 2).sum()), float(((other - goal) ** 2).sum())
    assert loss == pytest.approx(error if error + margin > bound else 0)
    assert teacher_bounded_regression(own, goal, goal).item() == pytest.approx(error)
    if abs(error + margin - bound) > 1e-6:
        shifted = teacher_bounded_regression(own + shift, other + shift, goal + shift, margin)
        assert shifted.item() == pytest.approx(loss, abs=1e-9)


def test_no_gradient_flows_into_teacher_and_target_and_half_precision_is_widened() -> None:
    own, other, goal = (torch.full((3, 4), value, dtype=torch.bfloat16, requires_grad=True) for value in (3, 1, 0))
    loss = teacher_bounded_regression(own, other, goal)
    assert loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss.sum(), (own, other, goal), allow_unused=True)
    assert gradients[0] is not None
    assert gradients[1] is None
    assert gradients[2] is None
