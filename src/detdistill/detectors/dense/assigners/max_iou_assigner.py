"""Anchors overlap the objects they learn: RetinaNet's assigner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_iou, box_area, box_centers, box_sides
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import IGNORED, Assignment, Targets
from detdistill.detectors.dense.assigners.lattice import (
    Lattice,
    all_background,
    batch_assignment,
    batch_index,
    best_claims,
)
from detdistill.detectors.dense.assigners.region import Region, listed_cells

SLACK = 1e-9
"""Windows ask for this much less overlap than is needed, relatively: rounding may add a cell but take none."""


@dataclass(frozen=True)
class MaxIouAssigner:
    """An anchor learns the object it overlaps most, if it does so enough (arXiv 1708.02002, section 4).

    Every object also takes the anchors that overlap it most, all of them if they tie, whatever other object they
    overlap more; a later object takes them from an earlier one (as mmdetection has it). An object that overlaps no
    anchor at all gets none (mmdetection would give it every anchor).

    EfficientDet (google/automl, effdet) has `single_best`: an object takes one anchor only, the first of equals, and an
    earlier object takes it from a later one.

    Attributes:
        positive: lowest IoU of a positive anchor.
        negative: below this IoU an anchor is background; from here to `positive` it is ignored.
        minimum: lowest IoU at which an object takes its best anchors.
        match_low_quality: whether objects take their best anchors.
        region: what anchors take part; those that do not are ignored, and nobody's best.
        single_best: an object takes only the first of its best anchors, and of two objects that take the same one the
            first has it.

    Raises:
        DetdistillError: the thresholds are not 0 < `negative` <= `positive` <= 1.
    """

    positive: float = 0.5
    negative: float = 0.4
    minimum: float = 0.0
    match_low_quality: bool = True
    region: Region | None = None
    single_best: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.negative <= self.positive <= 1:
            raise DetdistillError(
                f"IoU thresholds negative {self.negative} and positive {self.positive}: "
                "they must be 0 < negative <= positive <= 1"
            )

    @torch.no_grad()
    def __call__(self, grid: Grid, targets: Targets) -> Assignment:
        """Assigns a batch; time and memory grow with the anchors near objects, plus N x P for the result."""
        lattice, boxes = Lattice.of(grid), targets.boxes.double()
        within = None if self.region is None else self.region.cells(lattice, targets.sizes)
        own = None if within is None else (within[0][targets.image], within[1][targets.image])
        item, base, cell = self._near(lattice, boxes, own or lattice.every_cell)
        iou = aligned_iou(lattice.priors(base, cell), boxes[item])
        place = batch_index(targets, grid, item, lattice.prior_index(base, cell))
        matched = all_background(targets, grid)

        enough = iou >= self.negative
        stands = enough.clone()
        stands[enough] = best_claims(place[enough], iou[enough], item[enough])
        matched[place[stands]] = torch.where(iou[stands] >= self.positive, item[stands], IGNORED)

        if self.match_low_quality:
            best = iou.new_zeros(len(boxes)).scatter_reduce(0, item, iou, "amax")[item]
            tied = (iou == best) & (iou >= self.minimum)
            if self.single_best:
                first = place.new_full((len(boxes),), len(matched))
                first.scatter_reduce_(0, item[tied], place[tied], "amin")
                tied &= place == first[item]
            wins: Literal["amin", "amax"] = "amin" if self.single_best else "amax"
            matched.scatter_reduce_(0, place[tied], item[tied], wins, include_self=False)
        if within is not None:
            matched[~listed_cells(lattice, within).flatten()] = IGNORED
        return batch_assignment(matched, grid, targets)

    def _near(self, lattice: Lattice, boxes: Tensor, within: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Object, base anchor and cell of all pairs that can matter, and of few more.

        The cells are `within` a first and a last column and row, each `(G or 1, B, 2)`.

        Over a lattice the overlap of one base anchor with an object is a product of one factor per axis, and each
        factor falls with the distance of the centres. So the nearest cell has the highest IoU, and an IoU of at least
        t, that is an intersection of at least t / (1 + t) times the sum of both areas, bounds each factor from below:
        the cells that reach it lie in a window around the object's centre.
        """
        sides = box_sides(lattice.boxes)
        offsets = lattice.offsets(box_centers(boxes))
        nearest = offsets.round().maximum(within[0]).minimum(within[1])
        touching = (sides + box_sides(boxes)[:, None]) / 2
        covering = sides.minimum(box_sides(boxes)[:, None])
        overlap = (touching - (offsets - nearest).abs() * lattice.steps).minimum(covering).clamp(min=0)
        intersection = overlap.prod(-1) * (within[0] <= within[1]).all(dim=-1)
        areas = box_area(lattice.boxes) + box_area(boxes)[:, None]

        threshold = torch.full_like(areas[:, :1], self.negative)
        if self.match_low_quality:
            best = (intersection / (areas - intersection)).amax(dim=1, keepdim=True)
            threshold = torch.where(best > 0, best.minimum(threshold), threshold)
        needed = threshold / (1 + threshold) * areas * (1 - SLACK)
        reach = (touching - needed[..., None] / overlap.flip(-1)) / lattice.steps
        reach = torch.where((intersection >= needed)[..., None], reach, -1)
        return lattice.cells_between(offsets - reach, offsets + reach, within)
