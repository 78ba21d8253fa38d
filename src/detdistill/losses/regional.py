"""Losses between feature maps in some of their cells, each with the normaliser that its published weights are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from detdistill.core.structures import ReduceSum, single_process
from detdistill.losses.imitation import check_cells, check_levels, squared_difference


def fine_grained_imitation(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    cells: Sequence[Tensor],
    *,
    normalizer: Literal["locations", "elements"] = "locations",
    reduce_sum: ReduceSum = single_process,
) -> Tensor:
    """Half the squared difference of features in the chosen cells (Wang et al., FGFI, CVPR 2019).

    Args:
        student_features: L x `(N, Q, H, W)`, with the teacher's channels.
        teacher_features: L x `(N, Q, H, W)`; no gradient flows into them.
        cells: L x `(N, H, W)` bool; all levels count as one set of cells.
        normalizer: the sum is divided by the number of cells (`locations`, the authors' code) or by that of cells times
            channels (`elements`, DeFeat's code): Q lies between the two.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0: this process's share. Without cells it is 0 and still depends on the student.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student_features=student_features, teacher_features=teacher_features)
    check_cells(student_features=student_features, cells=cells)
    sums, counts = [], []
    for student, teacher, chosen in zip(student_features, teacher_features, cells, strict=True):
        channels = student.shape[1] if normalizer == "locations" else 1
        sums.append((squared_difference(student, teacher) * chosen).sum() * channels)
        counts.append(chosen.sum())
    total = torch.stack(sums).sum()
    return total / (2 * reduce_sum(torch.stack(counts).sum().to(total.dtype)).clamp(min=1))


def decoupled_imitation(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    foreground: Sequence[Tensor],
    valid: Sequence[Tensor],
    *,
    reduce_sum: ReduceSum = single_process,
) -> tuple[Tensor, Tensor]:
    """Half the mean squared difference of features, inside and outside of objects (Guo et al., DeFeat, CVPR 2021).

    The mean is over channels and cells of a level, then over all levels, as in the authors' code: a level without
    objects counts as 0. That padding is no background is a choice made here.

    Args:
        student_features: L x `(N, Q, H, W)`, with the teacher's channels.
        teacher_features: L x `(N, Q, H, W)`; no gradient flows into them.
        foreground: L x `(N, H, W)` bool, the cells of objects.
        valid: L x `(N, H, W)` bool, the cells that count, as `Grid.valid_cells` gives them.
        reduce_sum: over all processes.

    Returns:
        Two scalars, at least 0, foreground and background: this process's share of each. Without cells they are 0 and
        still depend on the student.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student_features=student_features, teacher_features=teacher_features)
    check_cells(student_features=student_features, foreground=foreground)
    check_cells(student_features=student_features, valid=valid)
    sums, counts = [], []
    for student, teacher, inside, counted in zip(student_features, teacher_features, foreground, valid, strict=True):
        difference = squared_difference(student, teacher)
        for cells in (inside & counted, ~inside & counted):
            sums.append((difference * cells).sum())
            counts.append(cells.sum())
    totals = torch.stack(sums).view(-1, 2)
    amounts = reduce_sum(torch.stack(counts).to(totals.dtype).view(-1, 2))
    objects, background = (totals / (2 * amounts.clamp(min=1))).mean(dim=0).unbind()
    return objects, background
