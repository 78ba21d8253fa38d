"""Regression that the teacher only bounds."""

from __future__ import annotations

from torch import Tensor

from detdistill.precision import at_least_float32


def teacher_bounded_regression(student: Tensor, teacher: Tensor, target: Tensor, margin: float = 0.0) -> Tensor:
    """‖student − target‖² where that plus the margin exceeds the teacher's ‖teacher − target‖², else 0.

    Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, NIPS 2017: a student that is
    better than its teacher is left alone.

    Args:
        student: `(…, D)` regressed numbers of a candidate.
        teacher: `(…, D)`, in the same units.
        target: `(…, D)` what both should be.
        margin: at least 0, in squared units; the paper does not give it.

    Returns:
        `(…,)`, at least 0; no gradient flows into teacher and target.
    """
    target = at_least_float32(target.detach())
    error = (at_least_float32(student) - target).square().sum(dim=-1)
    bound = (at_least_float32(teacher.detach()) - target).square().sum(dim=-1)
    return error * (error + margin > bound)
