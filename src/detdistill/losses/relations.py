"""Losses between the relations that things have to one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.precision import at_least_float32

LEAST_RELATED = 3
"""Of two things there is one distance, which its own mean makes 1 on both sides."""


def relation_imitation(student: Tensor, teacher: Tensor) -> Tensor:
    """The difference of the distances between K things, smooth L1, averaged over all pairs.

    Dai et al., General Instance Distillation for Object Detection, CVPR 2021. On each side distances are
    Euclidean, divided by the mean of those that are not 0, so that only their proportions count.

    Args:
        student: `(K, D)` features, a row for each thing.
        teacher: `(K, D')`; no gradient flows into them.

    Returns:
        Scalar, at least 0; 0 for fewer than three things.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    if len(student) < LEAST_RELATED:
        return 0 * student.sum()
    return F.smooth_l1_loss(_proportions(student), _proportions(teacher))


def _proportions(features: Tensor) -> Tensor:
    """`(K (K − 1) / 2,)` distances over their mean."""
    distances = torch.pdist(features)
    return distances * (distances > 0).sum() / distances.sum().clamp(min=torch.finfo(distances.dtype).tiny)
