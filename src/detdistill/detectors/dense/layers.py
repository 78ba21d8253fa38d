"""Layers that EfficientDet's pyramid and its heads share: separable convolutions, TensorFlow's batch norm."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.detectors.dense.choices import Activation

EPS = 1e-3
MOMENTUM = 0.01
"""Of EfficientDet's batch norms; torch counts the momentum of the new value, TensorFlow that of the old one."""
TAPS = 9

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}


class BatchNorm(nn.BatchNorm2d):
    """EfficientDet's batch norm, which stands a coarsest level of one cell in a batch of one image.

    Such a map has one value per channel, whose variance is not defined: it is normalised by the stored statistics.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS, momentum=MOMENTUM)

    def forward(self, input: Tensor) -> Tensor:
        """`(N, Q, H, W)`, normalised channel by channel."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution.

    Args:
        in_channels: of the input map.
        out_channels: of the output map.
        bias: adds a learned constant per output channel.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.depthwise = depthwise_conv(in_channels)
        self.pointwise = pointwise_conv(in_channels, out_channels, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(N, in_channels, H, W)` to `(N, out_channels, H, W)`."""
        result: Tensor = self.pointwise(self.depthwise(features))
        return result


def depthwise_conv(channels: int) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself, without bias; its output varies as its input."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(TAPS))
    return conv


def pointwise_conv(in_channels: int, out_channels: int, *, bias: bool) -> nn.Conv2d:
    """A 1x1 convolution whose output varies as its input."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(in_channels))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def activation(name: Activation) -> nn.Module:
    """An activation that overwrites its input."""
    return ACTIVATIONS[name](inplace=True)
