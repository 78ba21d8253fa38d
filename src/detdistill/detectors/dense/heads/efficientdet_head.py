"""EfficientDet: Tan et al., EfficientDet: Scalable and Efficient Object Detection, CVPR 2020."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import MaxIouAssigner
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.towers import set_prior_probability
from detdistill.detectors.dense.layers import depthwise_conv, pointwise_conv
from detdistill.detectors.dense.priors import ASPECTS, FittedLayout, centered_anchors
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.focal import focal_loss

OCTAVES = 3
CANDIDATES = 5000
"""(prior, class) pairs of all levels together that are decoded, whatever their scores."""
NO_LIMIT = 20.0
"""Log scales are decoded as they are; e^20 strides are far outside of every image and still finite."""
SIDES = 4


class EfficientDetHead(DenseHead):
    """Separable towers with batch norms for each level, nine centred anchors per cell, focal and Huber loss.

    Anchors, targets, losses and detections are those of the authors' code (google/automl) and of effdet 0.4.1, with two
    differences: an object that overlaps no anchor learns none (there it takes the first anchor of the image), and boxes
    without area inside of the image are left out. Ranks its candidates by the class score.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        anchor_scale: side of a cell's smallest square anchor, in strides.
        gamma: power of the focal loss's modulation, at least 0.
        label_smoothing: of the focal loss, 0 to 1.
        delta: error of a delta beyond which the Huber loss is linear, above 0.
        box_weight: factor on the Huber loss, at least 0.

    Raises:
        DetdistillError: an option is out of range.
    """

    offers: ClassVar = DenseHead.offers | {"anchors"}

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        towers: Towers = Towers(depth=3, norm="level_batch", separable=True, activation="silu"),
        *,
        anchor_scale: float = 4.0,
        gamma: float = 1.5,
        label_smoothing: float = 0.0,
        delta: float = 0.1,
        box_weight: float = 50.0,
    ) -> None:
        if gamma < 0 or not 0 <= label_smoothing <= 1 or delta <= 0 or box_weight < 0:
            raise DetdistillError(
                f"options of head efficientdet: gamma {gamma:g}, label_smoothing {label_smoothing:g}, delta {delta:g}, "
                f"box_weight {box_weight:g}; expected gamma and box_weight of at least 0, label_smoothing of 0 to 1, "
                "delta above 0"
            )
        super().__init__(
            in_channels,
            towers,
            layout=FittedLayout(strides, centered_anchors(OCTAVES, anchor_scale)),
            assigner=MaxIouAssigner(positive=0.5, negative=0.5, single_best=True),
            postprocessing=PostProcessing(
                score_threshold=0.0,
                iou_threshold=0.5,
                candidates_per_level=CANDIDATES,
                candidates_per_image=CANDIDATES,
            ),
        )
        anchors = OCTAVES * len(ASPECTS)
        self.coder: DeltaCoder = DeltaCoder(log_scales=(-NO_LIMIT, NO_LIMIT))
        # Predictors are separable, too; the rows of a class are those of the 1x1 convolution alone.
        self.class_depthwise = depthwise_conv(self.channels)
        self.class_predictor = pointwise_conv(self.channels, anchors * num_classes, bias=True)
        self.box_depthwise = depthwise_conv(self.channels)
        self.box_predictor = pointwise_conv(self.channels, anchors * SIDES, bias=True)
        set_prior_probability(self.class_predictor)
        self.gamma, self.label_smoothing, self.delta, self.box_weight = gamma, label_smoothing, delta, box_weight

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Class logits and deltas from the towers' maps."""
        grid = self.grid(class_features)
        class_logits = grid.flatten([self.class_predictor(self.class_depthwise(level)) for level in class_features])
        deltas = grid.flatten([self.box_predictor(self.box_depthwise(level)) for level in box_features])
        return Predictions(Candidates(grid), class_logits, deltas, self.coder)

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: focal over the positives plus 1; `box`: Huber on deltas over four times that.

        A delta whose target is exactly 0 does not count (the authors mask it as if it were no positive's).
        """
        positive = assignment.positive
        focal = focal_loss(
            predictions.class_logits,
            assignment.labels(targets),
            gamma=self.gamma,
            label_smoothing=self.label_smoothing,
        )
        grid = predictions.grid
        priors, strides = grid.priors[positive[1]], grid.prior_strides[positive[1]]
        # In float64, so that rounding makes no target 0 and none different from it.
        goals = self.coder.encode(priors.double(), strides, targets.boxes[assignment.positive_targets].double())
        deltas = at_least_float32(predictions.regression[positive])
        huber = F.huber_loss(deltas, goals.to(deltas.dtype), reduction="none", delta=self.delta)
        count = reduce_sum((assignment.matched >= 0).sum().float()) + 1
        return {
            "classification": focal.sum() / count,
            "box": self.box_weight * huber[goals != 0].sum() / (SIDES * count),
        }
