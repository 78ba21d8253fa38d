"""Feature mimicking in regions (Li et al., CVPR 2017)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.precision import at_least_float32
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.regions import best_regions, region_features
from detdistill.distill.term import FEATURES, Method
from detdistill.distill.view import View

OVERLAP = 0.7
"""Suppresses regions, as Faster R-CNN does with proposals (arXiv 1506.01497)."""

BINS = 7
"""Along both axes of a region, as in Fast R-CNN."""


class Mimic(FeatureTerm):
    """The student imitates the teacher's features in the regions that the student itself proposes.

    The paper compares features of the regions proposed by the small network's RPN: L = 1/(2N) Σ 1/m ‖u − r(v)‖² over
    N regions of m numbers each, u the teacher's features, v the student's and r a 1x1 convolution. The dense form is
    our adaptation: proposals are the student's own best candidates, by its detection score, after non-maximum
    suppression at 0.7; RoIAlign takes 7 x 7 features of each from the level of its size. The paper's second stage, with
    mimicked outputs, is what soft labels do.

    Args:
        regions: of an image, at most; our choice.
        adapter: 1x1 convolutions of the student's features `always`, as in the paper, or where channels differ.

    Raises:
        DetdistillError: there is no region.
    """

    method = Method(
        paper="Li et al., Mimicking Very Efficient Network, CVPR 2017",
        compares="pyramid features in the student's best regions",
        needs="pyramid features",
        teacher=(FEATURES,),
    )

    def __init__(self, *, regions: int = 100, adapter: Adapter = "always") -> None:
        super().__init__(adapter)
        if regions < 1:
            raise DetdistillError(f"regions must be at least 1, not {regions}")
        self.regions = regions

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        student = view.student
        regions = best_regions(
            student.predictions.scores().detach().amax(dim=-1),
            student.predictions.boxes,
            view.targets.sizes,
            count=self.regions,
            iou_threshold=OVERLAP,
            smallest_side=1,
        )
        # RoIAlign is linear: that of the differences is the difference, at half the cost.
        gaps = [at_least_float32(own) - at_least_float32(other) for own, other in zip(*self.maps(view), strict=True)]
        losses = region_features(gaps, student.predictions.grid, regions, BINS).square().flatten(1).mean(dim=1) / 2
        count = view.reduce_sum(losses.new_tensor(len(losses))).clamp(min=1)
        return {"features": losses.sum() / count}
