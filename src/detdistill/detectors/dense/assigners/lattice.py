"""The priors of a grid as lattices, and what every assigner does with candidates taken from them.

B counts the base anchors of all levels; each is repeated over the cells of its level. M counts candidates:
pairs of an object and a prior. Cells are (column, row).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detdistill.core.boxes import box_centers
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import Candidates
from detdistill.core.structures import BACKGROUND, Assignment, Targets
from detdistill.detectors.ignoring import ignore_background


@dataclass(frozen=True, eq=False)
class Lattice:
    """Every base anchor of a grid with the lattice of cells it is repeated over.

    Attributes:
        grid: where the base anchors come from.
        boxes: `(B, 4)` float64, each base anchor in the cell at the origin, in pixels.
        steps: `(B, 2)` float64, from cell to cell, in pixels.
        cells: `(B, 2)` int64, number of columns and rows.
    """

    grid: Grid
    boxes: Tensor
    steps: Tensor
    cells: Tensor

    @classmethod
    def of(cls, grid: Grid) -> Lattice:
        """The lattices of a grid, level by level, anchor by anchor."""
        device = grid.device
        repeats = torch.tensor(grid.anchors_per_cell, device=device)
        steps = torch.tensor(grid.strides, dtype=torch.float64, device=device).flip(-1)
        cells = torch.tensor(grid.sizes, device=device).flip(-1)
        return cls(
            grid,
            torch.cat(grid.base_anchors).double(),
            steps.repeat_interleave(repeats, dim=0),
            cells.repeat_interleave(repeats, dim=0),
        )

    @classmethod
    def of_single_priors(cls, grid: Grid, assigner: str) -> Lattice:
        """The lattices of a grid that has one prior per cell, as `assigner` needs it.

        Raises:
            DetdistillError: there are more.
        """
        if set(grid.anchors_per_cell) - {1}:
            raise DetdistillError(
                f"{assigner} needs one prior per cell, but this grid has {max(grid.anchors_per_cell)} anchors in a "
                "cell; give the layout one scale and one ratio, or assign with MaxIouAssigner"
            )
        return cls.of(grid)

    def offsets(self, points: Tensor) -> Tensor:
        """`(…, B, 2)` where points `(…, 2)`, in pixels, lie from each base anchor's centre at the origin, in cells."""
        return (points[..., None, :] - box_centers(self.boxes)) / self.steps

    def priors(self, base: Tensor, cell: Tensor) -> Tensor:
        """`(…, 4)` priors, in pixels: those of base anchors `(…,)` in cells `(…, 2)`."""
        shift = cell * self.steps[base]
        return self.boxes[base] + torch.cat((shift, shift), dim=-1)

    def prior_index(self, base: Tensor, cell: Tensor) -> Tensor:
        """`(…,)` index into P of the same priors."""
        counts = torch.tensor(self.grid.anchors_per_cell, device=base.device)
        level = torch.arange(len(counts), device=base.device).repeat_interleave(counts)[base]
        column, row = cell.unbind(-1)
        return self.grid.prior_index(level, row, column) + base - (counts.cumsum(0) - counts)[level]

    @property
    def every_cell(self) -> tuple[Tensor, Tensor]:
        """First and last column and row of all cells, `(1, B, 2)` each."""
        return torch.zeros_like(self.cells)[None], self.cells[None] - 1

    def cells_between(
        self, low: Tensor, high: Tensor, within: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lists the cells of one window per object and base anchor.

        Args:
            low: `(G, B, 2)` lowest column and row; need be neither whole nor inside the lattice.
            high: `(G, B, 2)` highest column and row, inclusive; a window with `high < low` is empty.
            within: first and last column and row that are listed, each `(G or 1, B, 2)`; None for all cells.

        Returns:
            Object `(M,)`, base anchor `(M,)` and cell `(M, 2)` of every candidate, object by object.
        """
        least, most = within or self.every_cell
        first = low.ceil().long().maximum(least)
        extent = (high.floor().long().minimum(most) - first + 1).clamp(min=0).flatten(0, 1)
        count = extent.prod(-1)
        window = torch.arange(len(count), device=count.device).repeat_interleave(count)
        place = torch.arange(len(window), device=count.device) - (count.cumsum(0) - count)[window]
        width = extent[window, 0]
        row = place.div(width, rounding_mode="floor")
        cell = first.flatten(0, 1)[window] + torch.stack((place - row * width, row), dim=-1)
        item = window.div(len(self.boxes), rounding_mode="floor")
        return item, window - item * len(self.boxes), cell


def batch_index(targets: Targets, grid: Grid, item: Tensor, prior: Tensor) -> Tensor:
    """`(M,)` index into the batch's N x P candidates: each object meets the priors of its own image only."""
    return targets.image[item] * grid.num_priors + prior


def best_claims(place: Tensor, score: Tensor, item: Tensor) -> Tensor:
    """Which object gets each place that several claim: the one with the highest score, the first of equals.

    Args:
        place: `(M,)` index into the batch's candidates.
        score: `(M,)`.
        item: `(M,)` the object that claims the place.

    Returns:
        `(M,)` bool: the claims that stand, one per place.
    """
    places, slot = torch.unique(place, return_inverse=True)
    highest = score.new_zeros(len(places)).scatter_reduce(0, slot, score, "amax", include_self=False)
    leads = score == highest[slot]
    first = item.new_zeros(len(places)).scatter_reduce(0, slot[leads], item[leads], "amin", include_self=False)
    return leads & (item == first[slot])


def all_background(targets: Targets, grid: Grid) -> Tensor:
    """`(N x P,)` int64 `BACKGROUND`."""
    count = targets.num_images * grid.num_priors
    return torch.full((count,), BACKGROUND, device=targets.boxes.device)


def batch_assignment(matched: Tensor, grid: Grid, targets: Targets) -> Assignment:
    """The assignment of all candidates, from `(N x P,)` matches; background inside ignored boxes is `IGNORED`."""
    assignment = Assignment(matched.view(targets.num_images, grid.num_priors))
    return ignore_background(assignment, Candidates(grid), targets)
