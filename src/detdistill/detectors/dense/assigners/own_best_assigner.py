"""torchvision's rule of which object a positive anchor learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detdistill.core.boxes import pairwise_iou
from detdistill.core.grid import Grid
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.assigners.max_iou_assigner import MaxIouAssigner


@dataclass(frozen=True)
class OwnBestAssigner:
    """Positives as `MaxIouAssigner` finds them, each for the object of its image that it overlaps most.

    So an object's best anchors may learn another object, as in torchvision; RetinaNet's authors and mmdetection let
    them learn that object.

    Attributes:
        assigner: finds the positives.
    """

    assigner: MaxIouAssigner

    @torch.no_grad()
    def __call__(self, grid: Grid, targets: Targets) -> Assignment:
        """Assigns a batch."""
        assignment = self.assigner(grid, targets)
        image, prior = assignment.positive
        if not len(prior):
            return assignment
        iou = pairwise_iou(grid.priors[prior].double(), targets.boxes.double())
        best = iou.masked_fill(targets.image != image[:, None], -1).argmax(dim=1)
        return Assignment(assignment.matched.index_put((image, prior), best))
