"""Losses between predicted and target boxes, elementwise: the caller weights and normalises.

Boxes are x1 y1 x2 y2, `(…, 4)`, both arguments of one shape, in pixels or in strides; the result is `(…,)`. L1 and
smooth L1 on deltas are torch's own. Half precision is widened to float32 by what is called here.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import distance_box_iou_loss, generalized_box_iou_loss

from detdistill.core.boxes import SMALLEST_SIDE, aligned_iou, box_sides
from detdistill.core.precision import at_least_float32

EPSILON = 1e-6
"""Smallest IoU in the logarithm, and what is added to areas and squared lengths that are divided by."""


def iou_loss(pred: Tensor, target: Tensor, form: Literal["log", "linear"] = "log") -> Tensor:
    """−log(IoU) (Yu et al., UnitBox, ACM MM 2016) or 1 − IoU, with the IoU at least 1e-6.

    Boxes that do not touch give no gradient.

    Returns:
        `(…,)`, 0 to 13.8 (log) or 0 to 1 (linear).
    """
    iou = aligned_iou(pred, target).clamp(min=EPSILON)
    return -iou.log() if form == "log" else 1 - iou


def giou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """1 − GIoU (Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1).

    Returns:
        `(…,)`, 0 to 2.
    """
    loss: Tensor = generalized_box_iou_loss(pred, target, eps=EPSILON)
    return loss


def diou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """1 − IoU + (distance of centres / diagonal of the enclosing box)² (Zheng et al., Distance-IoU, AAAI 2020, eq. 7).

    Returns:
        `(…,)`, 0 to 2.
    """
    loss: Tensor = distance_box_iou_loss(pred, target, eps=EPSILON)
    return loss


def ciou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The DIoU loss + α v, v being the difference of aspect ratios (Zheng et al., AAAI 2020, eq. 8 to 11).

    α is 0 up to IoU 0.5, as in the authors' later version (Enhancing Geometric Factors in Model Learning and Inference,
    2020) and in mmdetection; torchvision keeps the first version's α.

    Returns:
        `(…,)`, 0 to 2.
    """
    angle_difference = _diagonal_angle(target) - _diagonal_angle(pred)
    v = 4 / math.pi**2 * angle_difference**2
    with torch.no_grad():
        iou = aligned_iou(pred, target)
        alpha = (iou > 0.5) * v / (1 - iou + v).clamp(min=EPSILON)
    return diou_loss(pred, target) + alpha * v


def _diagonal_angle(boxes: Tensor) -> Tensor:
    """`(…,)` arctangent of width over height."""
    width, height = box_sides(boxes).unbind(dim=-1)
    return torch.atan(width / height.clamp(min=SMALLEST_SIDE))


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
