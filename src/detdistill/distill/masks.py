"""Which cells of the pyramid belong to objects."""

from __future__ import annotations

import torch
from torch import Tensor

from detdistill.grid import Grid
from detdistill.structures import Assignment, Targets


def positive_cells(grid: Grid, assignment: Assignment) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells at which a candidate is positive."""
    positive = grid.unflatten((assignment.matched >= 0)[..., None])
    return tuple(level.any(dim=1) for level in positive)


def object_cells(grid: Grid, targets: Targets) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells whose centre lies in an object's box."""
    left, top, right, bottom = targets.boxes[:, :, None].unbind(dim=1)
    maps = []
    for (height, width), (step_y, step_x) in zip(grid.sizes, grid.strides, strict=True):
        y = (torch.arange(height, device=left.device) + 0.5) * step_y
        x = (torch.arange(width, device=left.device) + 0.5) * step_x
        rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)  # (G, H), (G, W)
        inside = (rows[:, :, None] & columns[:, None, :]).to(torch.int32)
        counts = inside.new_zeros(targets.num_images, height, width).index_add_(0, targets.image, inside)
        maps.append(counts > 0)
    return tuple(maps)
