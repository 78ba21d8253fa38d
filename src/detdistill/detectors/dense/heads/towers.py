"""What the heads are built from: towers of convolutions, learned scales, predictors."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.deformable import DeformableConv

PRIOR_PROBABILITY = 0.01
"""Class probability of every candidate before training (Lin et al. 2017, RetinaNet, section 4.1)."""

GROUP_CHANNELS = 8


def normal_conv(in_channels: int, out_channels: int, *, bias: bool = True, kernel_size: int = 3) -> nn.Conv2d:
    """A size-keeping convolution, initialised with a normal distribution of standard deviation 0.01."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def class_predictor(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A predictor whose initial probabilities are `PRIOR_PROBABILITY`."""
    conv = normal_conv(in_channels, out_channels)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
    return conv


def conv_block(in_channels: int, out_channels: int, towers: Towers, *, deformable: bool = False) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU."""
    bias = towers.bias or towers.norm == "none"
    block = nn.Sequential()
    conv = (DeformableConv if deformable else normal_conv)(in_channels, out_channels, bias=bias)
    if towers.norm == "none":
        # A deviation of 0.01 is meant for 256 channels: nothing would be left of the signal behind four narrow layers.
        nn.init.kaiming_normal_(conv.get_parameter("weight"), nonlinearity="relu")
    block.add_module("conv", conv)
    if towers.norm == "group":
        groups = towers.groups or math.ceil(out_channels / GROUP_CHANNELS)
        if out_channels % groups:
            raise DetdistillError(
                f"{out_channels} tower channels do not divide into {groups} groups: give the towers a number of groups "
                f"that divides them, or a multiple of {GROUP_CHANNELS} channels"
            )
        block.add_module("norm", nn.GroupNorm(groups, out_channels))
    elif towers.norm == "batch":
        block.add_module("norm", nn.BatchNorm2d(out_channels))
    block.add_module("relu", nn.ReLU(inplace=True))
    return block


def conv_tower(in_channels: int, towers: Towers) -> nn.Sequential:
    """One stack of `conv_block`, the last one deformable if `towers` says so."""
    channels = towers.channels or in_channels
    widths = [in_channels, *(channels for _ in range(towers.depth))]
    blocks = [
        conv_block(*pair, towers, deformable=towers.deformable and number == towers.depth)
        for number, pair in enumerate(itertools.pairwise(widths), start=1)
    ]
    return nn.Sequential(*blocks)


def up_to_activation(tower: nn.Sequential, features: Tensor, depth: int) -> Tensor:
    """What a tower makes of a map after `depth` convolutions and the norm of the last; for 0 the map itself."""
    if depth == 0:
        return features
    last = tower[depth - 1]
    assert isinstance(last, nn.Sequential)
    result: Tensor = last[:-1](tower[: depth - 1](features))
    return result


def from_activation(tower: nn.Sequential, features: Tensor, depth: int) -> Tensor:
    """What comes out of a tower that holds `features` after `depth` convolutions, from their activation on."""
    result: Tensor = tower[depth:](F.relu(features) if depth else features)
    return result


class Scale(nn.Module):
    """A learned factor, one per pyramid level, that starts at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """`x` times the factor."""
        return x * self.scale


def level_scales(num_levels: int) -> nn.ModuleList:
    """One `Scale` per pyramid level."""
    return nn.ModuleList(Scale() for _ in range(num_levels))
