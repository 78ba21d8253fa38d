"""What the heads are built from: towers of convolutions, learned scales, predictors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.deformable import DeformableConv
from detdistill.detectors.dense.layers import BatchNorm, SeparableConv, activation

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
    set_prior_probability(conv)
    return conv


def set_prior_probability(conv: nn.Conv2d) -> None:
    """Gives a predictor of class logits the bias of `PRIOR_PROBABILITY`."""
    assert conv.bias is not None
    nn.init.constant_(conv.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))


class ConvBlock(nn.Module):
    """3x3 convolution, normalisation, activation; the levels of a pyramid share the convolution.

    Args:
        in_channels: of the input maps.
        out_channels: of the output maps.
        towers: what the convolution, the normalisation and the activation are.
        levels: how many the pyramid has.
        deformable: the convolution is a deformable one.

    Raises:
        DetdistillError: the channels do not divide into the groups of the normalisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, towers: Towers, levels: int, *, deformable: bool = False
    ) -> None:
        super().__init__()
        bias = towers.bias or towers.norm == "none"
        convolution = SeparableConv if towers.separable else DeformableConv if deformable else normal_conv
        self.conv: nn.Module = convolution(in_channels, out_channels, bias=bias)
        if towers.norm == "none" and not towers.separable:
            # A deviation of 0.01 is meant for 256 channels: nothing would be left of the signal behind four narrow
            # layers.
            nn.init.kaiming_normal_(self.conv.get_parameter("weight"), nonlinearity="relu")
        self.norm = _norm(out_channels, towers, levels)
        self.activation = activation(towers.activation)

    def before_activation(self, features: Tensor, level: int) -> Tensor:
        """A level's map `(N, Q, H, W)` after the convolution and the normalisation."""
        result: Tensor = self.conv(features)
        norm = self.norm[level] if isinstance(self.norm, nn.ModuleList) else self.norm
        return result if norm is None else norm(result)

    def forward(self, features: Tensor, level: int) -> Tensor:
        """A level's map `(N, Q, H, W)` after all three."""
        result: Tensor = self.activation(self.before_activation(features, level))
        return result


def _norm(channels: int, towers: Towers, levels: int) -> nn.Module | None:
    if towers.norm == "group":
        groups = towers.groups or math.ceil(channels / GROUP_CHANNELS)
        if channels % groups:
            raise DetdistillError(
                f"{channels} tower channels do not divide into {groups} groups: give the towers a number of groups "
                f"that divides them, or a multiple of {GROUP_CHANNELS} channels"
            )
        return nn.GroupNorm(groups, channels)
    if towers.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.ModuleList(BatchNorm(channels) for _ in range(levels)) if towers.norm == "level_batch" else None


class ConvTower(nn.ModuleList):
    """One stack of `ConvBlock`, the last one deformable if `towers` says so.

    Args:
        in_channels: of the pyramid's maps.
        towers: the stack's shape.
        levels: how many the pyramid has.
    """

    def __init__(self, in_channels: int, towers: Towers, levels: int) -> None:
        channels = towers.channels or in_channels
        widths = [in_channels, *(channels for _ in range(towers.depth))]
        super().__init__(
            ConvBlock(*pair, towers, levels, deformable=towers.deformable and number == towers.depth)
            for number, pair in enumerate(itertools.pairwise(widths), start=1)
        )

    @property
    def blocks(self) -> list[ConvBlock]:
        """The stack's members, in the order of their use."""
        return [cast(ConvBlock, block) for block in self]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps of all levels, L x `(N, Q, H_l, W_l)`, after the whole stack."""
        return [self._after(self.blocks, features, level) for level, features in enumerate(maps)]

    def up_to_activation(self, maps: Sequence[Tensor], depth: int) -> list[Tensor]:
        """The maps after `depth` convolutions and the normalisation of the last; for 0 the maps themselves."""
        if depth == 0:
            return list(maps)
        *before, last = self.blocks[:depth]
        return [
            last.before_activation(self._after(before, features, level), level) for level, features in enumerate(maps)
        ]

    def from_activation(self, maps: Sequence[Tensor], depth: int) -> list[Tensor]:
        """What comes out of the stack if it holds `maps` after `depth` convolutions, from their activation on."""
        if depth:
            # A copy is activated: the maps are kept.
            maps = [self.blocks[depth - 1].activation(features.clone()) for features in maps]
        return [self._after(self.blocks[depth:], features, level) for level, features in enumerate(maps)]

    @staticmethod
    def _after(blocks: Iterable[ConvBlock], features: Tensor, level: int) -> Tensor:
        for block in blocks:
            features = block(features, level)
        return features


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
