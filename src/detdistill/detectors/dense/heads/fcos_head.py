"""FCOS: Tian et al., Fully Convolutional One-Stage Object Detection, ICCV 2019, and its later improvements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import FcosAssigner
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.heads.centerness import centerness
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.towers import class_predictor, level_scales, normal_conv
from detdistill.detectors.dense.priors import PriorLayout, cell_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.box import giou_loss, iou_loss
from detdistill.losses.focal import focal_loss

CENTER_RADIUS = 1.5


def regression_ranges(strides: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Which object sizes each level learns, in pixels: up to 8 strides, from where the level below ends."""
    bounds = [-1.0, *(8.0 * stride for stride in strides[:-1]), math.inf]
    return tuple(itertools.pairwise(bounds))


class FcosHead(DenseHead):
    """One point per cell, focal loss, distances to the four sides; ranks its candidates by class x centerness.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        center_sampling: only points within 1.5 strides of an object's centre are positive for it.
        normalize_boxes: regress distances in strides, through a ReLU, instead of pixels, through an exponential.
        centerness_on_box_tower: predict centerness from the box tower instead of the class tower.
        giou: GIoU loss instead of -log IoU.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        towers: Towers = Towers(),
        *,
        center_sampling: bool = False,
        normalize_boxes: bool = False,
        centerness_on_box_tower: bool = False,
        giou: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            towers,
            layout=PriorLayout(strides, cell_boxes(strides)),
            assigner=FcosAssigner(regression_ranges(strides), CENTER_RADIUS if center_sampling else None),
            postprocessing=PostProcessing(iou_threshold=0.6 if center_sampling else 0.5),
        )
        self.normalize_boxes = normalize_boxes
        self.centerness_on_box_tower = centerness_on_box_tower
        self.box_loss = giou_loss if giou else iou_loss
        self.coder = DistanceCoder("stride" if normalize_boxes else "pixel")
        self.class_predictor = class_predictor(self.channels, num_classes)
        self.box_predictor = normal_conv(self.channels, 4)
        self.centerness_predictor = normal_conv(self.channels, 1)
        self.scales = level_scales(len(strides))

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Class logits, distances and centerness logits from the towers' maps."""
        grid = self.grid(class_features)
        classes = [self.class_predictor(level) for level in class_features]
        central_features = box_features if self.centerness_on_box_tower else class_features
        centers = [self.centerness_predictor(level) for level in central_features]
        distances = []
        for level, scale in zip(box_features, self.scales, strict=True):
            raw = at_least_float32(scale(self.box_predictor(level)))
            distances.append(F.relu(raw) if self.normalize_boxes else raw.exp())
        quality = grid.flatten(centers).squeeze(-1)
        return Predictions(Candidates(grid), grid.flatten(classes), grid.flatten(distances), self.coder, quality)

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: focal and `centerness`: BCE, over the positives; `box`: weighted by centerness."""
        assert predictions.quality_logits is not None
        positive = assignment.positive
        boxes = targets.boxes[assignment.positive_targets]
        central = centerness(predictions.grid.centers[positive[1]], boxes)
        count, weight = reduce_sum(torch.stack((central.new_tensor(len(boxes)), central.sum())))
        count, weight = count.clamp(min=1), weight.clamp(min=1e-6)
        quality_logits = at_least_float32(predictions.quality_logits[positive])
        return {
            "classification": focal_loss(predictions.class_logits, assignment.labels(targets)).sum() / count,
            "box": (self.box_loss(predictions.boxes(positive), boxes) * central).sum() / weight,
            "centerness": F.binary_cross_entropy_with_logits(quality_logits, central, reduction="sum") / count,
        }
