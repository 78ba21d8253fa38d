"""Fine-grained Feature Imitation (Wang et al., CVPR 2019, arXiv 1906.03609)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import Targets
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.term import FEATURES, GRID, Method
from detdistill.distill.view import View
from detdistill.losses.regional import fine_grained_imitation


class FineGrained(FeatureTerm):
    """The student imitates the teacher's features near objects: at cells with an anchor that overlaps one well.

    A cell counts for an object if the IoU of one of its anchors is above `share` times the object's largest. Half the
    squared difference there, summed over channels, is divided by the number of such cells in the batch. The paper has
    one map, the backbone's last; on a pyramid, an object's largest IoU is that over all levels, and the cells of all
    levels are one set: our reading. The authors' adapter ends in a ReLU, because their map does; pyramid maps do not.
    Its first weights are torch's, not N(0, 1e-4), through which no gradient would reach the features that automatic
    weights are measured at. The authors' first 400 steps without imitation are the warm-up here, in which automatic
    weights grow from 0.

    Args:
        share: ψ, at least 0 and below 1.
        normalizer: number of cells (`locations`, the authors' code), or cells times channels (`elements`, DeFeat's).
        adapter: 3x3 convolutions of the student's features `always`, as in the paper, or where channels differ.

    Raises:
        DetdistillError: the share is out of range.
    """

    method = Method(
        paper="Wang et al., CVPR 2019, arXiv 1906.03609",
        compares="pyramid features at cells whose anchors overlap objects",
        needs="pyramid features; anchors",
        teacher=(FEATURES,),
        student=GRID | {"anchors"},
        reported="RetinaNet R50 37.4 to 38.6, Faster R-CNN 38.4 to 39.3 (tables of FGD and DAVAR)",
    )

    def __init__(
        self,
        *,
        share: float = 0.5,
        normalizer: Literal["locations", "elements"] = "locations",
        adapter: Adapter = "always",
    ) -> None:
        super().__init__(adapter, kernel_size=3)
        if not 0 <= share < 1:
            raise DetdistillError(f"share must be at least 0 and below 1, not {share}")
        self.share, self.normalizer = share, normalizer

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        student = view.student
        own, other = self.maps(view)
        loss = fine_grained_imitation(
            own,
            other,
            near_object_cells(student.predictions.anchors, view.targets, self.share),
            normalizer=self.normalizer,
            reduce_sum=view.reduce_sum,
        )
        return {"features": loss}


def near_object_cells(grid: Grid, targets: Targets, share: float) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: cells with an anchor whose IoU with an object is above `share` times its largest."""
    priors = grid.priors
    near = torch.zeros(targets.num_images, grid.num_priors, dtype=torch.bool, device=priors.device)
    # One object at a time: pairs of all objects and anchors would be larger than the class predictions.
    for box, image in zip(targets.boxes, targets.image, strict=True):
        iou = pairwise_iou(box[None], priors)[0]
        near[image] |= iou > share * iou.max()
    return tuple(level.any(dim=1) for level in grid.unflatten(near[..., None]))
