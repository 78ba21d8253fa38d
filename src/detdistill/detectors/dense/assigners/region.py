"""Which anchors take part in an assignment, where not all do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detdistill.detectors.dense.assigners.lattice import Lattice


@dataclass(frozen=True)
class Region:
    """Anchors of cells on an image and its own padding, and of these, if asked for, only those within the image.

    The region proposal networks of mmdetection leave out the others (`allowed_border` -1 and 0).

    Attributes:
        multiple: each image by itself would be padded to multiples of so many pixels.
        inside: an anchor takes part only if none of it lies outside of the image's true size.
    """

    multiple: int
    inside: bool = False

    def cells(self, lattice: Lattice, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """First and last column and row of the cells whose anchors take part, `(N, B, 2)` int64 each.

        Args:
            lattice: of B base anchors.
            sizes: `(N, 2)` true height and width of each image, in pixels.
        """
        sides = sizes.flip(-1).double()[:, None]  # width, height
        padded = (sides / self.multiple).ceil() * self.multiple
        least, most = lattice.every_cell
        last = most.minimum((padded / lattice.steps).ceil().long() - 1)
        first = least.expand_as(last)
        if self.inside:
            first = first.maximum((-lattice.boxes[:, :2] / lattice.steps).ceil().long())
            last = last.minimum(((sides - lattice.boxes[:, 2:]) / lattice.steps).ceil().long() - 1)
        return first, last


def listed_cells(lattice: Lattice, within: tuple[Tensor, Tensor]) -> Tensor:
    """`(N, P)` bool: the priors of the cells between a first and a last column and row, `(N, B, 2)` each."""
    first, last = within
    levels, base = [], 0
    for (height, width), anchors in zip(lattice.grid.sizes, lattice.grid.anchors_per_cell, strict=True):
        own = slice(base, base + anchors)
        axes = []
        for axis, cells in enumerate((width, height)):
            place = torch.arange(cells, device=first.device)
            axes.append((first[:, own, axis, None] <= place) & (place <= last[:, own, axis, None]))  # (N, A, cells)
        columns, rows = axes
        inside = rows[:, :, :, None] & columns[:, :, None, :]  # (N, A, H, W)
        levels.append(inside.permute(0, 2, 3, 1).flatten(1))
        base += anchors
    return torch.cat(levels, dim=1)
