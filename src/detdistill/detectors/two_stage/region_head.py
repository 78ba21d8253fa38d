"""The layers of the two stages: the network that proposes, and the head that reads proposals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.detectors.dense.heads.towers import normal_conv

_CLASS_DEVIATION, _BOX_DEVIATION = 0.01, 0.001
"""Standard deviations of the predictors' first weights (Girshick, Fast R-CNN, ICCV 2015, section 2.3)."""


class ProposalHead(nn.Module):
    """3x3 convolutions and, for each anchor of a cell, one logit and one box (Ren et al., NeurIPS 2015, section 3.1).

    Args:
        channels: of the pyramid.
        anchors: per cell.
        depth: number of convolutions.
    """

    def __init__(self, channels: int, anchors: int, depth: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(normal_conv(channels, channels) for _ in range(depth))
        self.object_predictor = normal_conv(channels, anchors, kernel_size=1)
        self.box_predictor = normal_conv(channels, 4 * anchors, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits, L x `(N, A, H, W)`, and deltas, L x `(N, 4 A, H, W)`, from the pyramid's maps."""
        logits, deltas = [], []
        for features in maps:
            for conv in self.convs:
                features = F.relu(conv(features))
            logits.append(self.object_predictor(features))
            deltas.append(self.box_predictor(features))
        return logits, deltas


class RegionHead(nn.Module):
    """Convolutions, linear layers and two predictors, of one stage.

    Args:
        channels: of the proposals' features.
        size: cells along each side of them.
        num_classes: C.
        convolutions: number of 3x3 convolutions, as wide as the features.
        layers: number of linear layers.
        width: of the linear layers.
        class_boxes: each class has a box of its own.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        num_classes: int,
        *,
        convolutions: int = 0,
        layers: int = 2,
        width: int = 1024,
        class_boxes: bool = True,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convolutions))
        widths = [channels * size * size, *(width for _ in range(layers))]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.class_predictor = nn.Linear(widths[-1], num_classes + 1)
        self.box_predictor = nn.Linear(widths[-1], 4 * (num_classes if class_boxes else 1))
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(conv.get_parameter("bias"))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))
        for predictor, deviation in ((self.class_predictor, _CLASS_DEVIATION), (self.box_predictor, _BOX_DEVIATION)):
            nn.init.normal_(predictor.weight, std=deviation)
            nn.init.zeros_(predictor.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(K, C + 1)`, background last, and deltas `(K, 4 C)` or `(K, 4)`, of features `(K, Q, S, S)`."""
        for conv in self.convs:
            features = F.relu(conv(features))
        flat = torch.flatten(features, 1)
        for layer in self.layers:
            flat = F.relu(layer(flat))
        return self.class_predictor(flat), self.box_predictor(flat)
