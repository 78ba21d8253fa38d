"""Losses between the feature maps of two detectors, level by level.

Everything is averaged within a level first, over the global batch, and then over levels: a coarse level of few cells
counts as much as a fine one of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import ReduceSum, single_process


def prediction_guided_imitation(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    student_predictions: Sequence[Tensor],
    teacher_predictions: Sequence[Tensor],
    valid: Sequence[Tensor] | None = None,
    *,
    form: Literal["product", "l2norm", "square"] = "product",
    detach_prediction: bool = False,
    reduce_sum: ReduceSum = single_process,
) -> Tensor:
    """The difference of features where the predictions differ.

    Prediction-guided Feature Imitation (Li et al., Knowledge Distillation for Object Detection via Rank Mimicking and
    Prediction-guided Feature Imitation, AAAI 2022). In each cell, P is the mean squared difference of predictions and F
    that of features, over channels. The authors published no code, and readers of the paper wrote the reduction in
    three forms whose magnitudes differ by orders, so a weight belongs to one form. That padding does not count is a
    choice made here.

    Args:
        student_features: L x `(N, Q, H, W)`, with the teacher's channels.
        teacher_features: L x `(N, Q, H, W)`; no gradient flows into them.
        student_predictions: L x `(N, D, H, W)` class probabilities or logits, D = anchors times classes.
        teacher_predictions: L x `(N, D, H, W)`; no gradient flows into them.
        valid: L x `(N, H, W)` bool, the cells that count, as `Grid.valid_cells` gives them; None for all.
        form: `product`: mean of P·F over the level's valid cells. `square`: mean of (P·F)². `l2norm`: √Σ(P·F)² of each
            image over its number of valid cells, mean over the images that have any.
        detach_prediction: weigh by P without a gradient: only the features learn.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0: this process's share of the mean over the levels that have valid cells. Without any it is 0
        and still depends on the student.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student_features=student_features, teacher_features=teacher_features)
    check_levels(student_predictions=student_predictions, teacher_predictions=teacher_predictions)
    check_cells(student_features=student_features, student_predictions=student_predictions)
    if valid is None:
        valid = _all_cells(student_features)
    check_cells(student_features=student_features, valid=valid)
    sums, counts = [], []
    for f_s, f_t, p_s, p_t, cells in zip(
        student_features, teacher_features, student_predictions, teacher_predictions, valid, strict=True
    ):
        guide = squared_difference(p_s.detach() if detach_prediction else p_s, p_t)
        guided = guide * squared_difference(f_s, f_t) * cells
        if form == "l2norm":
            cells_per_image = cells.sum(dim=(1, 2))
            norms = torch.linalg.vector_norm(guided, dim=(1, 2))  # torch gives a norm of zero the gradient zero
            sums.append((norms / cells_per_image.clamp(min=1)).sum())
            counts.append((cells_per_image > 0).sum())
        else:
            sums.append((guided if form == "product" else guided.square()).sum())
            counts.append(cells.sum())
    return _mean_over_levels(sums, counts, reduce_sum)


def feature_imitation(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    reduce_sum: ReduceSum = single_process,
) -> Tensor:
    """The mean squared difference of features over channels and cells (Romero et al., FitNets, ICLR 2015).

    Their hint loss is half the squared distance of one layer; the mean over all of a pyramid is its form for detectors.

    Args:
        student_features: L x `(N, Q, H, W)`, with the teacher's channels.
        teacher_features: L x `(N, Q, H, W)`; no gradient flows into them.
        weights: L x `(N, H, W)` weight of each cell, at least 0, or bool; a level's sum of weights is what its loss is
            divided by. None weighs all alike.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0: this process's share of the mean over the levels that have any weight. Without any it is 0
        and still depends on the student.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student_features=student_features, teacher_features=teacher_features)
    if weights is None:
        weights = _all_cells(student_features)
    check_cells(student_features=student_features, weights=weights)
    weights = [at_least_float32(weight) for weight in weights]
    sums = [
        (squared_difference(student, teacher) * weight).sum()
        for student, teacher, weight in zip(student_features, teacher_features, weights, strict=True)
    ]
    return _mean_over_levels(sums, [weight.sum() for weight in weights], reduce_sum)


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """`(N, H, W)` mean over the channels of two maps `(N, Q, H, W)`.

    The elementwise loss saves its arguments only, and dividing after the sum keeps the gradient that flows back into
    it a broadcast scalar per cell: one temporary of the maps' size forward, none but the gradient itself backward.
    """
    difference = F.mse_loss(at_least_float32(student), at_least_float32(teacher.detach()), reduction="none")
    return difference.sum(dim=1) / student.shape[1]


def _all_cells(features: Sequence[Tensor]) -> list[Tensor]:
    return [level.new_ones(_cells(level), dtype=torch.bool) for level in features]


def _mean_over_levels(sums: Sequence[Tensor], amounts: Sequence[Tensor], reduce_sum: ReduceSum) -> Tensor:
    """This process's share of the mean over levels of sum / amount, over the levels whose global amount is not 0."""
    totals = reduce_sum(torch.stack(tuple(amounts)).to(sums[0].dtype))
    counted = totals > 0
    return (torch.stack(tuple(sums)) / totals.where(counted, 1)).sum() / counted.sum().clamp(min=1)


def _cells(level: Tensor) -> tuple[int, ...]:
    """(N, H, W) of maps with channels `(N, Q, H, W)` or without `(N, H, W)`."""
    return tuple(level.shape) if level.dim() == 3 else (level.shape[0], *level.shape[2:])


def check_levels(**maps: Sequence[Tensor]) -> None:
    """Raises unless both named sequences have the same levels of the same shapes."""
    check_cells(**maps)
    (first, first_maps), (second, second_maps) = maps.items()
    for level, (a, b) in enumerate(zip(first_maps, second_maps, strict=True)):
        if a.shape != b.shape:
            raise DetdistillError(
                f"level {level}: {first} {tuple(a.shape)} and {second} {tuple(b.shape)} have different channels; "
                "bring the student's to the teacher's number, for features with a 1x1 convolution"
            )


def check_cells(**maps: Sequence[Tensor]) -> None:
    """Raises unless both named sequences have as many levels, with the same images and cells."""
    (first, first_maps), (second, second_maps) = maps.items()
    if len(first_maps) != len(second_maps):
        raise DetdistillError(
            f"{first} has {len(first_maps)} levels and {second} has {len(second_maps)}; give the levels that both have"
        )
    for level, (a, b) in enumerate(zip(first_maps, second_maps, strict=True)):
        if _cells(a) != _cells(b):
            raise DetdistillError(
                f"level {level}: {first} {tuple(a.shape)} and {second} {tuple(b.shape)} differ in images, height or "
                "width; give both the same batch and resize one map to the other's cells"
            )
