"""From the masks that a detector predicts inside boxes to masks of the image."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from detdistill.core.instance_masks import InstanceMasks, trimmed
from detdistill.core.rle import Size, Window

THRESHOLD = 0.5
"""Probability from which on a pixel belongs to the object."""


def paste_masks(probabilities: Tensor, boxes: Tensor, size: Size, *, threshold: float = THRESHOLD) -> InstanceMasks:
    """Return the masks of detections in an image: mmdetection's and detectron2's rule.

    A pixel's probability is that at its middle, interpolated between the cells; outside the cells it falls to 0.

    Args:
        probabilities: `(K, M, M)` 0 to 1, on a grid of cells that covers each box.
        boxes: `(K, 4)` in pixels of the image.
        size: Height and width of the image in pixels.
        threshold: Least probability of the object's pixels, above 0.

    Returns:
        The masks, on the CPU; a box without area or outside the image gives one without a pixel.
    """
    cells, corners = probabilities.detach().float().cpu(), boxes.detach().float().cpu()
    crops = []
    for one, box in zip(cells, corners, strict=True):
        window = _window(box, size)
        values = _sampled(one, box, window).numpy()
        crops.append(trimmed(values >= np.float32(threshold), (window[0], window[1])))
    return InstanceMasks.of_crops(crops, size)


def paste_probabilities(probabilities: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Return the probability of each pixel of an image, `(K, H, W)` float32; arguments as in `paste_masks`.

    Nothing is pasted further than a pixel from the box, as in mmdetection on a CPU.
    """
    cells, corners = probabilities.detach().float().cpu(), boxes.detach().float().cpu()
    whole = torch.zeros(len(cells), *size)
    for plane, one, box in zip(whole, cells, corners, strict=True):
        x1, y1, x2, y2 = window = _window(box, size)
        plane[y1:y2, x1:x2] = _sampled(one, box, window)
    return whole


def _window(box: Tensor, size: Size) -> Window:
    """The pixels that can belong to a box's mask, and one beside them."""
    x1, y1, x2, y2 = box.tolist()
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
        return 0, 0, 0, 0
    height, width = size
    left, right = max(math.floor(x1) - 1, 0), min(math.ceil(x2) + 1, width)
    top, bottom = max(math.floor(y1) - 1, 0), min(math.ceil(y2) + 1, height)
    return (left, top, right, bottom) if left < right and top < bottom else (0, 0, 0, 0)


def _sampled(cells: Tensor, box: Tensor, window: Window) -> Tensor:
    """The probabilities `(h, w)` at the middles of a window's pixels."""
    x1, y1, x2, y2 = window
    if x2 <= x1:
        return cells.new_zeros(0, 0)
    across = (torch.arange(x1, x2) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    down = (torch.arange(y1, y2) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack((across.expand(len(down), -1), down[:, None].expand(-1, len(across))), dim=-1)
    values: Tensor = grid_sample(cells[None, None], grid[None], align_corners=False)
    return values[0, 0]
