"""LD: localization distillation (Zheng et al., CVPR 2022, arXiv 2102.12252)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import distance_box_iou

from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Targets
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.distill.term import GRID, Method, Pair, Term, check_temperature
from detdistill.distill.view import View
from detdistill.losses.distribution import distribution_kl

SIDES = 4
VALUABLE_SHARE = 0.25
"""The valuable region reaches down to this share of an object's ATSS threshold."""
VALUABLE_DIVISOR = 16
"""What the sum over the valuable region's sides is divided by; that over the positives' is divided by `SIDES`."""


class Localization(Term):
    """The student's distributions of box sides follow the teacher's.

    KL(teacher ‖ student) of each side times T², averaged over bins: at the student's positives, weighted by the
    student's best class score (without gradient), and in the valuable region around them, weighted by the prior's IoU
    with the object. Each sum is divided by a constant, as in the authors' code, so it grows with the number of objects
    in a batch. What they do with class scores is `soft_label` with form softmax and temperature 2.

    Args:
        region: the positives, the `main` region; the `valuable` region; or both.
        temperature: T, above 0: what logits are divided by.

    Raises:
        DetdistillError: the temperature is not above 0.
    """

    method = Method(
        paper="Zheng et al., CVPR 2022, arXiv 2102.12252",
        compares="distributions of box sides, at positives and around them",
        needs="box distributions of as many bins in both (GFL, GFLv2)",
        teacher=(GRID | {"distributions"},),
        student=GRID | {"distributions"},
        weights={"gfl": 0.25},
        sources="the authors' configuration",
        reported="GFL R18 35.8 to 36.5, R34 38.9 to 39.8, R50 40.1 to 41.1, teacher R101, main region (the authors)",
    )

    def __init__(self, *, region: Literal["main", "valuable", "both"] = "both", temperature: float = 10.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.region, self.temperature = region, temperature
        self.bins = 0

    def bind(self, pair: Pair) -> list[str]:
        """Looks whether the distributions can be compared.

        Raises:
            DetdistillError: their numbers of bins differ, or there are several priors per cell, or the teacher reads
                images at whose size its strides are other than the student's.
        """
        own, other = (
            output.predictions.regression.shape[-1] // SIDES for output in (pair.student_output, pair.teacher_output)
        )
        if own != other:
            raise DetdistillError(
                f"the student's distributions have {own} bins, the teacher's {other}; give the student's head the "
                f"option reg_max: {other - 1}"
            )
        strides, wanted = (
            [f"{stride:.4g}" for stride, _ in output.predictions.grid.strides]
            for output in (pair.student_output, pair.teacher_output)
        )
        if pair.ratio != 1 and strides != wanted:
            raise DetdistillError(
                f"distributions are in units of the stride, which is {', '.join(strides)} pixels in the student, and "
                f"{', '.join(wanted)} in the teacher at distill.teacher_images of {pair.ratio:.4g} times the student's "
                "size; choose a size at which they are equal"
            )
        if (
            self.region != "main"
            and pair.student_output.predictions.grid.anchors_per_cell
            != (1,) * pair.student_output.predictions.grid.num_levels
        ):
            raise DetdistillError("the valuable region is that of one prior per cell; take region: main")
        self.bins = own
        return []

    def forward(self, view: View) -> dict[str, Tensor]:
        """`main` and `valuable`, as far as asked for."""
        student, teacher = view.student, view.teacher
        parts = {}
        if self.region != "valuable":
            positive = view.assignment.positive
            weights = at_least_float32(student.predictions.class_logits[positive]).detach().amax(dim=-1).sigmoid()
            parts["main"] = self._divergence(student, teacher, positive, weights) / SIDES
        if self.region != "main":
            weights = valuable_region(student.predictions.grid, view.targets) * (view.assignment.matched != IGNORED)
            image, prior = weights.nonzero(as_tuple=True)
            valuable = self._divergence(student, teacher, (image, prior), weights[image, prior])
            parts["valuable"] = valuable / VALUABLE_DIVISOR
        return parts

    def _divergence(self, student: Output, teacher: Output, index: tuple[Tensor, Tensor], weights: Tensor) -> Tensor:
        """The weighted sum over candidates and sides."""
        own, other = (
            output.predictions.regression[index].reshape(-1, SIDES, self.bins) for output in (student, teacher)
        )
        return (distribution_kl(own, other, self.temperature).sum(dim=-1) * weights).sum()


@torch.no_grad()
def valuable_region(grid: Grid, targets: Targets) -> Tensor:
    """Where boxes are worth learning although ATSS calls it background (LD, section 3.3).

    Those are the priors whose DIoU with an object is less than its ATSS threshold, but at least a quarter of it.

    Args:
        grid: with one prior per cell.
        targets: the objects.

    Returns:
        `(N, P)` the largest IoU of the prior with an object in whose region it is, 0 outside of all regions.
    """
    threshold = AtssAssigner().thresholds(grid, targets)[:, None]
    distance_iou: Tensor = distance_box_iou(targets.boxes, grid.priors)
    valuable = (distance_iou >= VALUABLE_SHARE * threshold) & (distance_iou < threshold)
    iou = pairwise_iou(targets.boxes, grid.priors) * valuable
    empty = iou.new_zeros(targets.num_images, grid.num_priors)
    return empty.scatter_reduce(0, targets.image[:, None].expand_as(iou), iou, "amax")
