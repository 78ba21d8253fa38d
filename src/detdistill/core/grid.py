"""The grid of cells and priors through which a dense detector sees a batch.

Letters in shapes: N images, L pyramid levels, A anchors per cell of a level, P priors (all cells of all levels, times
their A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """The pyramid of cells through which a dense detector sees one batch, and the priors it lays out.

    Flat tensors `(N, P, …)` run level by level, row by row, cell by cell, anchor by anchor. This class is the only
    place that knows that order.

    Attributes:
        sizes: (height, width) in cells, per level.
        strides: (vertical, horizontal) step of a cell in pixels, per level; fractions where a teacher reads images of
            another size than those whose pixels count.
        base_anchors: L x `(A, 4)` the anchors of the cell at the origin; the cell in row i and column j has them moved
            by (j, i) strides. Levels may have different numbers of them. A point detector's prior is its cell: one box
            of the stride's size.
    """

    sizes: tuple[tuple[int, int], ...]
    strides: tuple[tuple[float, float], ...]
    base_anchors: tuple[Tensor, ...]

    @property
    def anchors_per_cell(self) -> tuple[int, ...]:
        """A of each level."""
        return tuple(len(anchors) for anchors in self.base_anchors)

    @property
    def device(self) -> torch.device:
        """Where the priors are."""
        return self.base_anchors[0].device

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.sizes)

    @cached_property
    def level_lengths(self) -> tuple[int, ...]:
        """Number of priors per level."""
        pairs = zip(self.sizes, self.anchors_per_cell, strict=True)
        return tuple(height * width * anchors for (height, width), anchors in pairs)

    @property
    def num_priors(self) -> int:
        """P."""
        return sum(self.level_lengths)

    @cached_property
    def priors(self) -> Tensor:
        """`(P, 4)` all anchors, in pixels."""
        levels = []
        for (height, width), (step_y, step_x), anchors in zip(self.sizes, self.strides, self.base_anchors, strict=True):
            device, dtype = anchors.device, anchors.dtype
            x = torch.arange(width, device=device, dtype=dtype) * step_x
            y = torch.arange(height, device=device, dtype=dtype) * step_y
            shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack((shift_x, shift_y, shift_x, shift_y), dim=-1)
            levels.append((shifts[:, :, None] + anchors).reshape(-1, 4))
        return torch.cat(levels)

    @cached_property
    def centers(self) -> Tensor:
        """`(P, 2)` the priors' centres (x, y), in pixels."""
        return (self.priors[:, :2] + self.priors[:, 2:]) / 2

    @cached_property
    def prior_strides(self) -> Tensor:
        """`(P,)` the horizontal stride of each prior's level: the unit in which distances are regressed."""
        levels = zip(self.level_lengths, self.strides, strict=True)
        first = self.base_anchors[0]
        return torch.cat([first.new_full((length,), step_x) for length, (_, step_x) in levels])

    def prior_index(self, level: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Index into P of the first anchor of a cell; its other anchors follow.

        Args:
            level: level of each cell; broadcasts with `row` and `column`.
            row: row of each cell in its level.
            column: column of each cell in its level.
        """
        starts = torch.tensor([0, *accumulate(self.level_lengths)], device=level.device)
        widths = torch.tensor([width for _, width in self.sizes], device=level.device)
        anchors = torch.tensor(self.anchors_per_cell, device=level.device)
        return starts[level] + (row * widths[level] + column) * anchors[level]

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Joins the levels' maps `(N, A*D, H, W)`, channel = anchor * D + d, into one flat tensor `(N, P, D)`."""
        flat = []
        for level, anchors in zip(maps, self.anchors_per_cell, strict=True):
            batch, channels, height, width = level.shape
            flat.append(level.permute(0, 2, 3, 1).reshape(batch, height * width * anchors, channels // anchors))
        return torch.cat(flat, dim=1)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Cuts a flat tensor `(N, P, …)` into its levels `(N, P_l, …)`."""
        return torch.split(flat, list(self.level_lengths), dim=1)

    def unflatten(self, flat: Tensor) -> tuple[Tensor, ...]:
        """The inverse of `flatten`: `(N, P, D)` to the levels' maps `(N, A*D, H, W)`."""
        batch, _, depth = flat.shape
        return tuple(
            level.reshape(batch, height, width, anchors * depth).permute(0, 3, 1, 2)
            for level, (height, width), anchors in zip(self.split(flat), self.sizes, self.anchors_per_cell, strict=True)
        )

    def valid_cells(self, image_sizes: Tensor) -> tuple[Tensor, ...]:
        """Which cells have their centre inside the image's true size (the rest is batch padding).

        Args:
            image_sizes: `(N, 2)` true height and width of each image, in pixels.

        Returns:
            A bool map `(N, H, W)` per level.
        """
        device = image_sizes.device
        maps = []
        for (height, width), (step_y, step_x) in zip(self.sizes, self.strides, strict=True):
            rows = (torch.arange(height, device=device) + 0.5) * step_y < image_sizes[:, :1]
            columns = (torch.arange(width, device=device) + 0.5) * step_x < image_sizes[:, 1:]
            maps.append(rows[:, :, None] & columns[:, None, :])
        return tuple(maps)
