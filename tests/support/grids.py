from __future__ import annotations

import torch

from detdistill.core.grid import Grid


def make_grid(sizes: list[tuple[int, int]], anchors: int) -> Grid:
    strides = [8 * 2**level for level in range(len(sizes))]
    base = torch.tensor([[[0.0, 0.0, stride, stride + anchor] for anchor in range(anchors)] for stride in strides])
    return Grid(tuple(sizes), tuple((stride, stride) for stride in strides), base)
