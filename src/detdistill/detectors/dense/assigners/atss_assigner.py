"""The statistics of an object's nearest priors set its own threshold: ATSS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_iou, box_centers, boxes_to_distances
from detdistill.core.grid import Grid
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.assigners.lattice import (
    Lattice,
    all_background,
    batch_assignment,
    batch_index,
    best_claims,
)

INSIDE = 0.01
"""Pixels; a prior's centre this near to an object's side is not inside the object."""


@dataclass(frozen=True)
class AtssAssigner:
    """Adaptive training sample selection (arXiv 1912.02424, algorithm 1), for one prior per cell.

    An object's candidates are the `topk` priors of each level whose centres are nearest to its own (all priors of a
    smaller level; the first in order where distances tie). Positive are those of IoU at least the mean plus the
    unbiased standard deviation of all candidates, with their centre inside the object; a prior that several objects
    want learns the one it overlaps most.

    Attributes:
        topk: candidates per object and level.
    """

    topk: int = 9

    @torch.no_grad()
    def __call__(self, grid: Grid, targets: Targets) -> Assignment:
        """Assigns a batch; time and memory grow with the objects, plus N x P for the result.

        Raises:
            DetdistillError: the grid has several anchors per cell.
        """
        lattice, boxes = Lattice.of_single_priors(grid, "ATSS"), targets.boxes.double()
        cell, priors, exists = self._candidates(lattice, boxes)
        iou = aligned_iou(priors, boxes[:, None, None])

        inside = boxes_to_distances(box_centers(priors), boxes[:, None, None]).amin(dim=-1) > INSIDE
        threshold = threshold_of(iou.flatten(1), exists.flatten(1))[:, None, None]
        item, level, order = (exists & inside & (iou >= threshold)).nonzero(as_tuple=True)

        place = batch_index(targets, grid, item, lattice.prior_index(level, cell[item, level, order]))
        stands = best_claims(place, iou[item, level, order], item)
        matched = all_background(targets, grid)
        matched[place[stands]] = item[stands]
        return batch_assignment(matched, grid, targets)

    @torch.no_grad()
    def thresholds(self, grid: Grid, targets: Targets) -> Tensor:
        """`(G,)` the IoU from which on each object's candidates are positive, float64.

        Raises:
            DetdistillError: the grid has several anchors per cell.
        """
        boxes = targets.boxes.double()
        _, priors, exists = self._candidates(Lattice.of_single_priors(grid, "ATSS"), boxes)
        return threshold_of(aligned_iou(priors, boxes[:, None, None]).flatten(1), exists.flatten(1))

    def _candidates(self, lattice: Lattice, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each object's candidates: cells `(G, L, topk, 2)`, priors `(G, L, topk, 4)`, and whether they exist."""
        cell, exists = self._nearest(lattice, box_centers(boxes))
        base = torch.arange(len(lattice.boxes), device=boxes.device)[:, None].expand(exists.shape)
        return cell, lattice.priors(base, cell), exists

    def _nearest(self, lattice: Lattice, points: Tensor) -> tuple[Tensor, Tensor]:
        """The cells of each level whose prior's centre is nearest to each point.

        The i-th nearest column and the j-th nearest row meet in a cell that i x j - 1 others precede, so only pairs
        with i x j <= `topk` are compared.

        Returns:
            Cells `(G, L, topk, 2)`, and `(G, L, topk)` bool: false where the level has fewer cells.
        """
        offsets = lattice.offsets(points)
        first = (offsets - self.topk / 2).ceil().long().minimum(lattice.cells - self.topk).clamp(min=0)
        line = first[..., None] + torch.arange(self.topk, device=points.device)
        squared = ((offsets[..., None] - line) * lattice.steps[..., None]).square()
        squared = squared.masked_fill(line >= lattice.cells[..., None], torch.inf)
        squared, order = squared.sort(dim=-1, stable=True)
        line = line.gather(-1, order)

        rank = range(self.topk)
        column, row = torch.tensor([(i, j) for i in rank for j in rank if (i + 1) * (j + 1) <= self.topk]).T
        cell = torch.stack((line[..., 0, column], line[..., 1, row]), dim=-1)
        distance = squared[..., 0, column] + squared[..., 1, row]
        by_index = (cell[..., 1] * lattice.cells[:, None, 0] + cell[..., 0]).argsort(dim=-1)
        distance, by_distance = distance.gather(-1, by_index).sort(dim=-1, stable=True)
        chosen = by_index.gather(-1, by_distance)[..., : self.topk]
        return cell.gather(-2, chosen[..., None].expand(*chosen.shape, 2)), distance[..., : self.topk].isfinite()


def threshold_of(iou: Tensor, exists: Tensor) -> Tensor:
    """`(G,)` mean plus unbiased standard deviation of the values `(G, K)` that exist; their mean if there is one."""
    count = exists.sum(dim=1)
    mean = (iou * exists).sum(dim=1) / count
    deviation = (iou - mean[:, None]) * exists
    return mean + (deviation.square().sum(dim=1) / (count - 1).clamp(min=1)).sqrt()
