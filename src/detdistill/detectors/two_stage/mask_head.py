"""The layers of a mask branch."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class MaskHead(nn.Module):
    """3x3 convolutions, a transposed one that doubles the size, a mask for each class (He et al., ICCV 2017, fig. 4).

    Args:
        in_channels: of the regions' features.
        num_classes: C.
        convolutions: number of 3x3 convolutions.
        channels: of them.
        class_masks: each class has a mask of its own.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        convolutions: int = 4,
        channels: int = 256,
        class_masks: bool = True,
    ) -> None:
        super().__init__()
        widths = [in_channels, *(channels for _ in range(convolutions))]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.upsample = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.mask_predictor = nn.Conv2d(channels, num_classes if class_masks else 1, 1)
        for layer in (*self.convs, self.upsample, self.mask_predictor):
            nn.init.kaiming_normal_(layer.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """Logits `(K, C, 2 S, 2 S)`, or `(K, 1, 2 S, 2 S)`, of features `(K, Q, S, S)`."""
        for conv in self.convs:
            features = F.relu(conv(features))
        logits: Tensor = self.mask_predictor(F.relu(self.upsample(features)))
        return logits
