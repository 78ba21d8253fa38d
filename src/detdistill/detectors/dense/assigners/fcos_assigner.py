"""Points inside an object learn it, on the level that suits its size: FCOS's assigner."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detdistill.core.boxes import box_area, box_centers, box_sides, boxes_to_distances
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.assigners.lattice import (
    Lattice,
    all_background,
    batch_assignment,
    batch_index,
    best_claims,
)


@dataclass(frozen=True)
class FcosAssigner:
    """A point learns the smallest object that it lies in, if its level is for such objects (arXiv 1904.01355).

    Attributes:
        ranges: per level, the smallest and largest distance in pixels, both inclusive, that a point's farthest side
            of the object may have.
        center_radius: only points nearer to the object's centre than this many of their priors' sides, along both
            axes, learn it (FCOS's prior is its cell, so its side is the stride); None for all points inside.
    """

    ranges: tuple[tuple[float, float], ...]
    center_radius: float | None = None

    @torch.no_grad()
    def __call__(self, grid: Grid, targets: Targets) -> Assignment:
        """Assigns a batch; time and memory grow with the cells under the objects, plus N x P for the result.

        Raises:
            DetdistillError: the grid has several anchors per cell, or not as many levels as there are ranges.
        """
        if len(self.ranges) != grid.num_levels:
            raise DetdistillError(
                f"{len(self.ranges)} regression ranges {self.ranges} for {grid.num_levels} levels; "
                "FCOS needs one range for every level"
            )
        lattice, boxes = Lattice.of_single_priors(grid, "FCOS"), targets.boxes.double()
        smallest, largest = boxes.new_tensor(self.ranges).unbind(-1)
        radius = box_sides(lattice.boxes) * (torch.inf if self.center_radius is None else self.center_radius)
        start, end, centers = boxes[:, None, :2], boxes[:, None, 2:], box_centers(boxes)[:, None]
        low = start.maximum(end - largest[:, None]).maximum(centers - radius)
        high = end.minimum(start + largest[:, None]).minimum(centers + radius)
        origin = box_centers(lattice.boxes)
        item, level, cell = lattice.cells_between((low - origin) / lattice.steps, (high - origin) / lattice.steps)

        points = box_centers(lattice.priors(level, cell))
        distances = boxes_to_distances(points, boxes[item])
        farthest = distances.amax(dim=-1)
        central = ((points - box_centers(boxes)[item]).abs() < radius[level]).all(dim=-1)
        learns = (distances.amin(dim=-1) > 0) & (farthest >= smallest[level]) & (farthest <= largest[level]) & central
        item, level, cell = item[learns], level[learns], cell[learns]

        place = batch_index(targets, grid, item, lattice.prior_index(level, cell))
        stands = best_claims(place, -box_area(boxes)[item], item)
        matched = all_background(targets, grid)
        matched[place[stands]] = item[stands]
        return batch_assignment(matched, grid, targets)
