"""ATSS: Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection, CVPR 2020."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.dense.heads.centerness import centerness
from detdistill.detectors.dense.heads.dense_head import DenseHead, counted_positives
from detdistill.detectors.dense.heads.towers import class_predictor, level_scales, normal_conv
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.box import giou_loss
from detdistill.losses.focal import focal_loss

ANCHOR_SCALE = 8.0
ANCHOR_RATIO = 1.0
BOX_WEIGHT = 2.0


class AtssHead(DenseHead):
    """One anchor per cell, positives by the statistics of their overlaps; ranks by class x centerness.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        anchor_scale: side of a cell's anchor, in strides.
    """

    offers: ClassVar = DenseHead.offers | {"anchors"}

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        towers: Towers = Towers(),
        *,
        anchor_scale: float = ANCHOR_SCALE,
    ) -> None:
        super().__init__(
            in_channels,
            towers,
            layout=PriorLayout(strides, anchor_boxes(strides, (anchor_scale,), (ANCHOR_RATIO,))),
            assigner=AtssAssigner(),
            postprocessing=PostProcessing(),
        )
        self.coder = DeltaCoder(stds=(0.1, 0.1, 0.2, 0.2))
        self.class_predictor = class_predictor(self.channels, num_classes)
        self.box_predictor = normal_conv(self.channels, 4)
        self.centerness_predictor = normal_conv(self.channels, 1)
        self.scales = level_scales(len(strides))

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Class logits, deltas and centerness logits from the towers' maps."""
        grid = self.grid(class_features)
        classes = [self.class_predictor(level) for level in class_features]
        deltas = [scale(self.box_predictor(level)) for level, scale in zip(box_features, self.scales, strict=True)]
        centers = [self.centerness_predictor(level) for level in box_features]
        quality = grid.flatten(centers).squeeze(-1)
        return Predictions(Candidates(grid), grid.flatten(classes), grid.flatten(deltas), self.coder, quality)

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: focal and `centerness`: BCE, over the positives; `box`: GIoU weighted by centerness."""
        assert predictions.quality_logits is not None
        positive = assignment.positive
        boxes = targets.boxes[assignment.positive_targets]
        central = centerness(predictions.grid.centers[positive[1]], boxes)
        count, weight = reduce_sum(torch.stack((counted_positives(assignment), central.sum())))
        count, weight = count.clamp(min=1), weight.clamp(min=1)
        quality_logits = at_least_float32(predictions.quality_logits[positive])
        box = (giou_loss(predictions.boxes(positive), boxes) * central).sum()
        return {
            "classification": focal_loss(predictions.class_logits, assignment.labels(targets)).sum() / count,
            "box": BOX_WEIGHT * box / weight,
            "centerness": F.binary_cross_entropy_with_logits(quality_logits, central, reduction="sum") / count,
        }
