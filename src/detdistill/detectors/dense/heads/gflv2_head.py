"""GFLv2: Li et al., Learning Reliable Localization Quality Estimation for Dense Object Detection, CVPR 2021."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Predictions, joint_logit
from detdistill.core.precision import at_least_float32
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.heads.gfl_head import ANCHOR_SCALE, GflHead
from detdistill.detectors.dense.heads.towers import normal_conv

TOP_BINS = 4
QUALITY_CHANNELS = 64


class DistributionQuality(nn.Module):
    """Guesses from the shape of a box's four distributions how well it fits (the paper's DGQP, section 3.3).

    Args:
        reg_max: a side has `reg_max + 1` bins.

    Raises:
        DetdistillError: a side has fewer bins than are looked at.
    """

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        if reg_max + 1 < TOP_BINS:
            raise DetdistillError(f"reg_max must be at least {TOP_BINS - 1} for GFLv2, not {reg_max}")
        self.bins = reg_max + 1
        self.layers = nn.Sequential(
            normal_conv(4 * (TOP_BINS + 1), QUALITY_CHANNELS, kernel_size=1),
            nn.ReLU(inplace=True),
            normal_conv(QUALITY_CHANNELS, 1, kernel_size=1),
        )

    def forward(self, distributions: Tensor) -> Tensor:
        """Distribution logits `(N, 4 * bins, H, W)`, side by side, to a quality logit `(N, 1, H, W)`."""
        batch, _, height, width = distributions.shape
        sides = at_least_float32(distributions).reshape(batch, 4, self.bins, height, width).softmax(dim=2)
        top = sides.topk(TOP_BINS, dim=2).values
        statistics = torch.cat((top, top.mean(dim=2, keepdim=True)), dim=2)
        quality: Tensor = self.layers(statistics.flatten(1, 2))
        return quality


class Gflv2Head(GflHead):
    """GFL whose class probability is multiplied by a quality read off the box distributions; ranks by the product.

    The output's `class_logits` are the logits of that product, so that its sigmoid is the joint score and the quality
    focal loss on logits is the paper's on probabilities.

    Args:
        in_channels: of the pyramid's maps.
        num_classes: C.
        strides: of the pyramid's levels.
        towers: shape of the two stacks of convolutions.
        reg_max: the largest distance, in strides; a side has `reg_max + 1` bins.
        anchor_scale: side of a cell's anchor, in strides.
    """

    # The official code divides by the sum of weights as it is; this only keeps 0 / 0 away.
    least_weight = 1e-6

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
        super().__init__(in_channels, num_classes, strides, towers, reg_max=reg_max, anchor_scale=anchor_scale)
        self.quality = DistributionQuality(reg_max)

    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Joint class-quality logits and box distributions from the towers' maps."""
        grid = self.grid(class_features)
        distributions = self.distributions(box_features)
        joint = [
            joint_logit(at_least_float32(self.class_predictor(level)), at_least_float32(self.quality(distribution)))
            for level, distribution in zip(class_features, distributions, strict=True)
        ]
        return Predictions(Candidates(grid), grid.flatten(joint), grid.flatten(distributions), self.coder)
