"""Deformable convolutions: Zhu et al., Deformable ConvNets v2, CVPR 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from detdistill.core.precision import at_least_float32

TAPS = 9


class DeformableConv(nn.Module):
    """A 3x3 convolution that learns where each of its taps looks, and how much it counts (section 3.2).

    Args:
        in_channels: of the input map.
        out_channels: of the output map.
        bias: adds a learned constant per output channel.
        stride: of the output map, in cells of the input's.
        groups: of channels that are convolved apart.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.sampling = nn.Conv2d(in_channels, 3 * TAPS, 3, stride=stride, padding=1)
        self.conv = DeformConv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=bias)
        nn.init.zeros_(self.sampling.weight)
        assert self.sampling.bias is not None
        nn.init.zeros_(self.sampling.bias)
        nn.init.normal_(self.conv.weight, std=0.01)
        if bias:
            nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, out_channels, H / stride, W / stride)`."""
        sampling = at_least_float32(self.sampling(features))
        return deform(self.conv, features, sampling[:, : 2 * TAPS], sampling[:, 2 * TAPS :].sigmoid())


def deform(conv: DeformConv2d, features: Tensor, offsets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Runs torchvision's deformable convolution in float32.

    torchvision has none in bfloat16 on CPU, and offsets want float32 anyway.

    Args:
        conv: the convolution.
        features: `(N, Q, H, W)`.
        offsets: `(N, 18, H, W)` offsets (dy, dx) of each tap, row by row, in cells.
        mask: `(N, 9, H, W)` factor of each tap, 0 to 1; None for 1.
    """
    with torch.autocast(features.device.type, enabled=False):
        result: Tensor = conv(at_least_float32(features), offsets, mask)
    return result
