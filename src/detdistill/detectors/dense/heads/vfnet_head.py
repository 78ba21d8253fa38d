"""VFNet: Zhang et al., VarifocalNet: An IoU-aware Dense Object Detector, CVPR 2021."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from detdistill.core.boxes import aligned_iou, distances_to_boxes
from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.deformable import deform
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.towers import ConvBlock, class_predictor, level_scales, normal_conv
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.postprocess import PostProcessing
from detdistill.losses.box import giou_loss
from detdistill.losses.focal import varifocal_loss

ANCHOR_SCALE = 8.0
ANCHOR_RATIO = 1.0
DISTANCE_UNIT = 8
"""The initial distances are regressed in units of this many strides (64 px on the finest level)."""
OFFSET_GRADIENT = 0.1
"""Share of the deformable convolutions' gradient that reaches the initial box."""
INITIAL_BOX_WEIGHT = 1.5
REFINED_BOX_WEIGHT = 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class VfnetPredictions(Predictions):
    """Predictions whose `regression` are the refined distances.

    Attributes:
        initial_distances: `(N, P, 4)` left, top, right, bottom in pixels, before the refinement.
    """

    initial_distances: Tensor


def star_offsets(distances: Tensor, stride: int) -> Tensor:
    """Moves the nine taps of a 3x3 convolution onto a box's centre, corners and middles of the sides (section 4.2).

    Args:
        distances: `(N, 4, H, W)` left, top, right, bottom in pixels.
        stride: of the map, in pixels.

    Returns:
        `(N, 18, H, W)` offsets (dy, dx) of each tap, row by row, in cells.
    """
    left, top, right, bottom = (distances / stride).unbind(dim=1)
    middle = torch.zeros_like(left)
    rows, columns = (-top, middle, bottom), (-left, middle, right)
    taps = [
        component
        for row in range(3)
        for column in range(3)
        for component in (rows[row] - (row - 1), columns[column] - (column - 1))
    ]
    return torch.stack(taps, dim=1)


class VfnetHead(DenseHead):
    """An IoU-aware class score from features sampled around an initial box, which is then refined; ranks by that score.

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
        towers: Towers = Towers(depth=3),
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
        self.coder = DistanceCoder("pixel")
        self.initial_block = ConvBlock(self.channels, self.channels, towers, len(strides))
        self.initial_predictor = normal_conv(self.channels, 4)
        self.initial_scales = level_scales(len(strides))
        self.refined_conv = self._star_conv()
        self.refined_predictor = normal_conv(self.channels, 4)
        self.refined_scales = level_scales(len(strides))
        self.class_conv = self._star_conv()
        self.class_predictor = class_predictor(self.channels, num_classes)

    def _star_conv(self) -> DeformConv2d:
        conv = DeformConv2d(self.channels, self.channels, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, std=0.01)
        return conv

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> VfnetPredictions:
        """Class logits, initial and refined distances from the towers' maps."""
        grid = self.grid(class_features)
        pairs = zip(class_features, box_features, strict=True)
        levels = [self.level(*pair, index) for index, pair in enumerate(pairs)]
        classes, initial, refined = (grid.flatten(maps) for maps in zip(*levels, strict=True))
        return VfnetPredictions(Candidates(grid), classes, refined, self.coder, initial_distances=initial)

    def level(self, class_features: Tensor, box_features: Tensor, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """One level's tower maps `(N, Q, H, W)` to maps of class logits, of initial and of refined distances."""
        stride = self.strides[index]
        raw = self.initial_scales[index](self.initial_predictor(self.initial_block(box_features, index)))
        initial = at_least_float32(raw).exp() * (DISTANCE_UNIT * stride)
        damped = (1 - OFFSET_GRADIENT) * initial.detach() + OFFSET_GRADIENT * initial
        offsets = star_offsets(damped, stride)
        box_features = F.relu(deform(self.refined_conv, box_features, offsets))
        factor = self.refined_scales[index](self.refined_predictor(box_features))
        refined = at_least_float32(factor).exp() * initial.detach()
        class_features = F.relu(deform(self.class_conv, class_features, offsets))
        return self.class_predictor(class_features), initial, refined

    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """`classification`: varifocal over the positives; `initial_box`, `box`: GIoU weighted by their own IoU."""
        assert isinstance(predictions, VfnetPredictions)
        positive = image, prior = assignment.positive
        goals = targets.boxes[assignment.positive_targets]
        refined = predictions.boxes(positive)
        initial = distances_to_boxes(predictions.grid.centers[prior], predictions.initial_distances[positive])
        refined_iou = aligned_iou(refined.detach(), goals).clamp(min=1e-6)
        initial_iou = aligned_iou(initial.detach(), goals).clamp(min=1e-6)
        goal_scores = refined.new_zeros(predictions.class_logits.shape)
        goal_scores[image, prior, targets.labels[assignment.positive_targets]] = refined_iou
        sums = torch.stack((refined_iou.new_tensor(len(goals)), initial_iou.sum(), refined_iou.sum()))
        count, initial_weight, refined_weight = reduce_sum(sums).clamp(min=1)
        ignored = assignment.matched == IGNORED
        return {
            "classification": varifocal_loss(predictions.class_logits, goal_scores, ignored=ignored).sum() / count,
            "initial_box": INITIAL_BOX_WEIGHT * (giou_loss(initial, goals) * initial_iou).sum() / initial_weight,
            "box": REFINED_BOX_WEIGHT * (giou_loss(refined, goals) * refined_iou).sum() / refined_weight,
        }
