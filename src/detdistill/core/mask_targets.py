"""What a mask branch learns: the masks of objects inside boxes, at the branch's resolution.

He et al., Mask R-CNN, ICCV 2017, section 3.1. Implementations differ in the sampling, so that a mask branch must be
trained and tested by one rule.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import roi_align

from detdistill.core.boxes import clip_boxes
from detdistill.core.instance_masks import InstanceMasks

MASK_SIDE = 28
"""Cells of a side of the masks that Mask R-CNN predicts with a pyramid."""


def binary_mask_targets(masks: InstanceMasks, boxes: Tensor, matched: Tensor, *, side: int = MASK_SIDE) -> Tensor:
    """Return the masks inside boxes as 0 and 1: mmdetection's rule, and detectron2's for bitmaps.

    Boxes are clipped to the masks' plane. An aligned RoIAlign with ceil(side of the box / side of the mask) points a
    cell and axis averages the mask; a cell belongs to the object from 0.5 on.

    Args:
        masks: Of G objects, on the batch's canvas.
        boxes: `(K, 4)` in pixels of that canvas.
        matched: `(K,)` int64, the object of each box, 0 to G - 1; an object without a mask gives zeros.
        side: Cells of a side.

    Returns:
        `(K, side, side)` float32.
    """
    plane = boxes.new_tensor(masks.size).expand(len(boxes), 2)
    aligned = _pooled(masks, plane, clip_boxes(boxes, plane), matched, side, aligned=True)
    return (aligned >= 0.5).to(aligned.dtype)


def soft_mask_targets(
    masks: InstanceMasks, boxes: Tensor, matched: Tensor, sizes: Tensor, *, side: int = MASK_SIDE
) -> Tensor:
    """Return the masks inside boxes as shares of each cell, 0 to 1: torchvision's rule.

    An unaligned RoIAlign, half a pixel beside that of `binary_mask_targets`. torchvision's masks end where their image
    ends, and not at the canvas.

    Args:
        masks: Of G objects.
        boxes: `(K, 4)` in pixels of the canvas, inside their images.
        matched: `(K,)` int64, the object of each box, 0 to G - 1; an object without a mask gives zeros.
        sizes: `(K, 2)` true height and width of each box's image.
        side: Cells of a side.

    Returns:
        `(K, side, side)` float32.
    """
    return _pooled(masks, sizes, boxes, matched, side, aligned=False)


def _pooled(
    masks: InstanceMasks, planes: Tensor, boxes: Tensor, matched: Tensor, side: int, *, aligned: bool
) -> Tensor:
    """RoIAlign of each box on the mask of its object, of which only the part around the object is looked at."""
    boxes = boxes.float()
    targets = boxes.new_zeros(len(boxes), side, side)
    crops, windows = masks.crops(), masks.windows.tolist()
    objects, limits = matched.tolist(), planes.tolist()
    rows_of: dict[tuple[int, int, int], list[int]] = {}
    for row, (place, (height, width)) in enumerate(zip(objects, limits, strict=True)):
        rows_of.setdefault((place, int(height), int(width)), []).append(row)
    for (place, height, width), rows in rows_of.items():
        x1, y1, x2, y2 = windows[place]
        if x2 <= x1:
            continue
        # A border of one pixel, but not beyond the plane, where RoIAlign repeats the last pixel instead.
        left, top, right, bottom = int(x1 > 0), int(y1 > 0), int(x2 < width), int(y2 < height)
        plane = pad(crops[place][None, None].float(), (left, right, top, bottom))
        shift = boxes.new_tensor((x1 - left, y1 - top)).repeat(2)
        chosen = torch.tensor(rows, device=boxes.device)
        found = roi_align(plane, [boxes[chosen] - shift], side, aligned=aligned)
        targets[chosen] = found[:, 0]
    return targets
