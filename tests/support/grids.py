from __future__ import annotations

import torch

from detdistill.core.grid import Grid


def make_grid(sizes: list[tuple[int, int]], anchors: int | list[int]) -> Grid:
    """Levels of strides 8, 16, …, with so many anchors a cell, on all levels or on each."""
    strides = [8 * 2**level for level in range(len(sizes))]
    counts = [anchors] * len(sizes) if isinstance(anchors, int) else anchors
    base = tuple(
        torch.tensor([[0.0, 0.0, stride, stride + anchor] for anchor in range(count)])
        for stride, count in zip(strides, counts, strict=True)
    )
    return Grid(tuple(sizes), tuple((stride, stride) for stride in strides), base)
