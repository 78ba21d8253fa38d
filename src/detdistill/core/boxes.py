"""Box arithmetic: how boxes are written as deltas and distances, clipped and compared.

Boxes are x1 y1 x2 y2 in pixels, `(…, 4)`; points are x y. All functions broadcast over the leading dimensions, are
differentiable and compute in float32 at least. torchvision has the pairwise IoU and the clipping too, but neither
broadcasts over a batch, and its IoU of two boxes without area is 0/0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detdistill.core.precision import at_least_float32

SMALLEST_SIDE = 1e-6
"""Pixels; a side of no length counts as this long where it is divided by or its logarithm is taken."""

SMALLEST_AREA = 1e-6
"""Square pixels; a union of no area counts as this large where it is divided by."""

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""A decoded side is at most this factor (as a logarithm) longer or shorter than the prior's, unless a head says
otherwise."""

LOG_SCALES = (-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
Deviations = tuple[float, float, float, float]


def box_centers(boxes: Tensor) -> Tensor:
    """`(…, 2)` centres (x, y) of boxes `(…, 4)`, in pixels."""
    boxes = at_least_float32(boxes)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def box_sides(boxes: Tensor) -> Tensor:
    """`(…, 2)` width and height of boxes `(…, 4)`, in pixels."""
    boxes = at_least_float32(boxes)
    return boxes[..., 2:] - boxes[..., :2]


def box_area(boxes: Tensor) -> Tensor:
    """`(…,)` area of boxes `(…, 4)` in square pixels."""
    width, height = box_sides(boxes).unbind(dim=-1)
    return width * height


def encode_deltas(priors: Tensor, boxes: Tensor, stds: Deviations = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Boxes as offsets and log scales from priors (Girshick et al., R-CNN, CVPR 2014, appendix C).

    Args:
        priors: `(…, 4)`.
        boxes: `(…, 4)`.
        stds: what dx, dy, dw and dh are divided by.

    Returns:
        `(…, 4)` dx, dy in units of the prior's sides, dw, dh as natural logarithms; finite also for empty boxes.
    """
    prior_sides = box_sides(priors).clamp(min=SMALLEST_SIDE)
    offsets = (box_centers(boxes) - box_centers(priors)) / prior_sides
    log_scales = (box_sides(boxes).clamp(min=SMALLEST_SIDE) / prior_sides).log()
    deltas = torch.cat((offsets, log_scales), dim=-1)
    return deltas / deltas.new_tensor(stds)


def decode_deltas(
    priors: Tensor,
    deltas: Tensor,
    stds: Deviations = (1.0, 1.0, 1.0, 1.0),
    log_scales: tuple[float, float] = LOG_SCALES,
) -> Tensor:
    """The inverse of `encode_deltas`, with limited log scales against overflow.

    Args:
        priors: `(…, 4)`.
        deltas: `(…, 4)`.
        stds: what dx, dy, dw and dh were divided by.
        log_scales: lowest and highest natural logarithm of a side's factor.

    Returns:
        `(…, 4)` boxes, not clipped to the image.
    """
    sides = box_sides(priors)
    deltas = at_least_float32(deltas)
    deltas = deltas * deltas.new_tensor(stds)
    centers = box_centers(priors) + deltas[..., :2] * sides
    half_sides = sides * deltas[..., 2:].clamp(*log_scales).exp() / 2
    return torch.cat((centers - half_sides, centers + half_sides), dim=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances from points `(…, 2)` to the sides of boxes `(…, 4)`.

    Returns:
        `(…, 4)` left, top, right, bottom in pixels; negative where the point lies outside of that side.
    """
    points, boxes = at_least_float32(points), at_least_float32(boxes)
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes `(…, 4)` from points `(…, 2)` and their distances left, top, right, bottom `(…, 4)` in pixels."""
    points, distances = at_least_float32(points), at_least_float32(distances)
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes `(…, 4)` cut at the borders of images of height and width `sizes` `(…, 2)`.

    The leading dimensions broadcast: for boxes `(N, P, 4)` give sizes `(N, 1, 2)`.
    """
    boxes = at_least_float32(boxes)
    height, width = sizes.to(boxes.dtype).unbind(dim=-1)
    return boxes.clamp(min=0).minimum(torch.stack((width, height, width, height), dim=-1))


def aligned_intersection(a: Tensor, b: Tensor) -> Tensor:
    """`(…,)` area in square pixels that each box of `a` `(…, 4)` shares with its partner in `b` `(…, 4)`."""
    a, b = at_least_float32(a), at_least_float32(b)
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    width, height = sides.clamp(min=0).unbind(dim=-1)
    return width * height


def aligned_iou(a: Tensor, b: Tensor) -> Tensor:
    """`(…,)` intersection over union, 0 to 1, of each box of `a` `(…, 4)` with its partner in `b` `(…, 4)`.

    Two boxes without area have IoU 0.
    """
    intersection = aligned_intersection(a, b)
    union = box_area(a) + box_area(b) - intersection
    return intersection / union.clamp(min=SMALLEST_AREA)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """`(…, A, B)` intersection over union, 0 to 1, of all boxes of `a` `(…, A, 4)` with all of `b` `(…, B, 4)`."""
    # Coordinate by coordinate: four times as fast on a CPU as with corners side by side in memory.
    a, b = at_least_float32(a), at_least_float32(b)
    left, top, right, bottom = a[..., :, None, :].unbind(dim=-1)
    other_left, other_top, other_right, other_bottom = b[..., None, :, :].unbind(dim=-1)
    width = torch.minimum(right, other_right) - torch.maximum(left, other_left)
    height = torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    union = box_area(a)[..., :, None] + box_area(b)[..., None, :] - intersection
    return intersection / union.clamp(min=SMALLEST_AREA)


def boxes_to_original(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Brings boxes found in a resized image back to the original one.

    Args:
        boxes: `(K, 4)` in pixels of the resized image.
        size: true height and width of the resized image (without batch padding).
        original: height and width of the original image.

    Returns:
        `(K, 4)` in pixels of the original image, clipped to it.
    """
    scale = boxes.new_tensor((original[1] / size[1], original[0] / size[0])).repeat(2)
    limit = boxes.new_tensor((original[1], original[0])).repeat(2)
    return torch.minimum((boxes * scale).clamp(min=0), limit)
