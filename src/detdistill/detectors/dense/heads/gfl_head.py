"""GFL: Li et al., Generalized Focal Loss, NeurIPS 2020."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.detectors.dense.coders import DistributionCoder
from detdistill.detectors.dense.heads.dense_head import DenseHead, counted_positives
from detdistill.detectors.dense.heads.towers import class_predictor, level_scales, normal_conv
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.box import giou_loss
from detdistill.losses.distribution import distribution_focal_loss
from detdistill.losses.focal import quality_focal_loss

ANCHOR_SCALE = 8.0
ANCHOR_RATIO = 1.0
BOX_WEIGHT = 2.0
DISTRIBUTION_WEIGHT = 0.25


class GflHead(DenseHead):
    """A joint class-IoU score, and each side of a box as a distribution over bins; ranks by the joint score.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        reg_max: the largest distance, in strides; a side has `reg_max + 1` bins.
        anchor_scale: side of a cell's anchor, in strides.

    Raises:
        DetdistillError: `reg_max` is less than 1.
    """

    offers: ClassVar = DenseHead.offers | {"anchors", "distributions"}

    least_weight = 1.0
    """Least sum of the box terms' weights to divide by."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        towers: Towers = Towers(),
        *,
        reg_max: int = 16,
        anchor_scale: float = ANCHOR_SCALE,
    ) -> None:
        if reg_max < 1:
            raise DetdistillError(f"reg_max must be at least 1, not {reg_max}")
        super().__init__(
            in_channels,
            towers,
            layout=PriorLayout(strides, anchor_boxes(strides, (anchor_scale,), (ANCHOR_RATIO,))),
            assigner=AtssAssigner(),
            postprocessing=PostProcessing(),
        )
        self.coder: DistributionCoder = DistributionCoder(bins=reg_max + 1)
        self.class_predictor = class_predictor(self.channels, num_classes)
        self.box_predictor = normal_conv(self.channels, 4 * (reg_max + 1))
        self.scales = level_scales(len(strides))

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Class logits and box distributions from the towers' maps."""
        grid = self.grid(class_features)
        classes = [self.class_predictor(level) for level in class_features]
        distributions = self.distributions(box_features)
        return Predictions(Candidates(grid), grid.flatten(classes), grid.flatten(distributions), self.coder)

    def distributions(self, box_features: Sequence[Tensor]) -> list[Tensor]:
        """The maps of distribution logits, level by level."""
        return [scale(self.box_predictor(level)) for level, scale in zip(box_features, self.scales, strict=True)]

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: QFL over the positives; `box`: GIoU and `distribution`: DFL, weighted by class score."""
        positive = assignment.positive
        priors, strides = predictions.grid.priors[positive[1]], predictions.grid.prior_strides[positive[1]]
        goals = targets.boxes[assignment.positive_targets]
        boxes = predictions.boxes(positive)
        quality = boxes.new_zeros(assignment.matched.shape)
        quality[positive] = aligned_iou(boxes.detach(), goals)
        weights = at_least_float32(predictions.class_logits[positive]).detach().amax(dim=-1).sigmoid()
        count, weight = reduce_sum(torch.stack((counted_positives(assignment), weights.sum())))
        count, weight = count.clamp(min=1), weight.clamp(min=self.least_weight)
        distributions = predictions.regression[positive].reshape(-1, 4, self.coder.bins)
        spread = distribution_focal_loss(distributions, self.coder.encode(priors, strides, goals)).mean(dim=-1)
        labels = assignment.labels(targets)
        return {
            "classification": quality_focal_loss(predictions.class_logits, labels, quality).sum() / count,
            "box": BOX_WEIGHT * (giou_loss(boxes, goals) * weights).sum() / weight,
            "distribution": DISTRIBUTION_WEIGHT * (spread * weights).sum() / weight,
        }
