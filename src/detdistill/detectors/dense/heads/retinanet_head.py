"""RetinaNet: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import MaxIouAssigner
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.dense.heads.dense_head import DenseHead, counted_positives
from detdistill.detectors.dense.heads.towers import class_predictor, normal_conv
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.focal import focal_loss

ANCHOR_SCALES = tuple(4 * 2 ** (octave / 3) for octave in range(3))
ANCHOR_RATIOS = (0.5, 1.0, 2.0)


class RetinaNetHead(DenseHead):
    """Nine anchors per cell, focal loss, L1 on box deltas; ranks its candidates by the class score.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        anchor_scales: sides of the square anchors of a cell, in strides.
        anchor_ratios: height over width; every scale comes in every ratio.
    """

    offers: ClassVar = DenseHead.offers | {"anchors"}

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        towers: Towers = Towers(norm="none"),
        *,
        anchor_scales: tuple[float, ...] = ANCHOR_SCALES,
        anchor_ratios: tuple[float, ...] = ANCHOR_RATIOS,
    ) -> None:
        layout = PriorLayout(strides, anchor_boxes(strides, anchor_scales, anchor_ratios))
        super().__init__(
            in_channels,
            towers,
            layout=layout,
            assigner=MaxIouAssigner(positive=0.5, negative=0.4),
            postprocessing=PostProcessing(iou_threshold=0.5),
        )
        anchors = len(anchor_scales) * len(anchor_ratios)
        self.coder: DeltaCoder = DeltaCoder()
        self.class_predictor = class_predictor(self.channels, anchors * num_classes)
        self.box_predictor = normal_conv(self.channels, anchors * 4)

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Class logits and deltas from the towers' maps."""
        grid = self.grid(class_features)
        class_logits = grid.flatten([self.class_predictor(level) for level in class_features])
        deltas = grid.flatten([self.box_predictor(level) for level in box_features])
        return Predictions(Candidates(grid), class_logits, deltas, self.coder)

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: focal; `box`: L1 on deltas. Both over the number of positives."""
        positive = assignment.positive
        labels = assignment.labels(targets)
        focal = focal_loss(predictions.class_logits, labels).sum(dim=-1)
        priors, strides = predictions.grid.priors[positive[1]], predictions.grid.prior_strides[positive[1]]
        goals = self.coder.encode(priors, strides, targets.boxes[assignment.positive_targets])
        count = reduce_sum(counted_positives(assignment)).clamp(min=1)
        return {
            "classification": focal[labels != IGNORED].sum() / count,
            "box": F.l1_loss(at_least_float32(predictions.regression[positive]), goals, reduction="sum") / count,
        }
