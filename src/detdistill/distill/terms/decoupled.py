"""Decoupled features (Guo et al., DeFeat, CVPR 2021, arXiv 2103.14475)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.structures import BACKGROUND, ReduceSum
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.regions import ignored_cells, largest_by_image, object_windows
from detdistill.distill.term import Method
from detdistill.distill.view import View
from detdistill.losses.regional import decoupled_imitation
from detdistill.losses.soft_labels import binary_kl


class Decoupled(FeatureTerm):
    """The student imitates the teacher's features inside of objects and outside, each part with its own weight.

    Each object has the level of the pyramid that its size belongs to. Of each part and level, half the mean squared
    difference over cells and channels; then the mean over levels. Cells in ignored boxes are in no part. The adapter's
    first weights are torch's, not N(0, 1e-4), through which no gradient would reach the features that automatic weights
    are measured at.

    Args:
        foreground: weight of the cells in objects.
        background: weight of all others. 3 and 12 are the released configuration of Faster R-CNN on VOC.
        classification: weight of the class probabilities' KL divergence, averaged over positives and over background
            candidates separately; in our dense form of sigmoids. The authors' code has it, with 2, but their released
            configuration does not use it.
        adapter: 3x3 convolutions of the student's features `always`, as in the paper, or where channels differ.
    """

    method = Method(
        paper="Guo et al., CVPR 2021, arXiv 2103.14475",
        compares="pyramid features in objects and in the background, apart",
        needs="pyramid features; class predictions of the same candidates for classification",
        reported="RetinaNet R50 37.4 to 39.3, Faster R-CNN 38.4 to 40.3 (DAVAR's table)",
    )

    def __init__(
        self,
        *,
        foreground: float = 3.0,
        background: float = 12.0,
        classification: float = 0.0,
        adapter: Adapter = "always",
    ) -> None:
        super().__init__(adapter, kernel_size=3)
        self.foreground, self.background, self.classification = foreground, background, classification

    def forward(self, view: View) -> dict[str, Tensor]:
        """`foreground`, `background`, and `classification` if it has a weight."""
        student, teacher, targets = view.student, view.teacher, view.targets
        own, other = self.maps(view)
        grid = student.predictions.grid
        objects = [largest_by_image(window.float(), targets) > 0 for window in object_windows(grid, targets)]
        ignored, valid = ignored_cells(grid, targets), grid.valid_cells(targets.sizes)
        counted = [cells & (mine | ~left) for cells, mine, left in zip(valid, objects, ignored, strict=True)]
        foreground, background = decoupled_imitation(own, other, objects, counted, reduce_sum=view.reduce_sum)
        parts = {"foreground": self.foreground * foreground, "background": self.background * background}
        if self.classification:
            # Of an object that the teacher has no class for it says nothing.
            chosen = view.assignment.labels(targets) >= 0, view.assignment.matched == BACKGROUND
            means = [self._mean_divergence(student, teacher, candidates, view.reduce_sum) for candidates in chosen]
            parts["classification"] = self.classification * (means[0] + means[1])
        return parts

    def _mean_divergence(self, student: Output, teacher: Output, candidates: Tensor, reduce_sum: ReduceSum) -> Tensor:
        losses = binary_kl(student.predictions.class_logits[candidates], teacher.predictions.class_logits[candidates])
        return losses.sum() / reduce_sum(candidates.sum().float()).clamp(min=1)
