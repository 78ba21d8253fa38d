"""Centerness: how central a location is in its object (Tian et al. 2019, FCOS, equation 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from detdistill.core.boxes import boxes_to_distances


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """The centerness of points inside boxes.

    Args:
        points: `(K, 2)` x, y, each strictly inside its box.
        boxes: `(K, 4)`.

    Returns:
        `(K,)`, 1 at the centre, 0 at the border.
    """
    left, top, right, bottom = boxes_to_distances(points, boxes).unbind(dim=-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()
