"""BiFPN: Tan et al., EfficientDet, CVPR 2020, section 3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers.pool2d_same import create_pool2d
from torch import Tensor, nn

from detdistill.detectors.dense.architecture import BiFeaturePyramid
from detdistill.detectors.dense.layers import BatchNorm, SeparableConv, activation

FUSION_EPS = 1e-4
"""Added to the sum of the weights (section 3.3)."""


class BiFpn(nn.Module):
    """A pyramid whose levels are fused from coarse to fine and back, several times.

    Layers and arithmetic are those of the authors' code (google/automl) and of effdet. Levels may have any size: a map
    is enlarged to the size of the one that it is fused with, and halved with rounding up.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        in_strides: of the backbone's maps.
        settings: the pyramid's.

    Attributes:
        channels: channels of every level.
        strides: stride of every level, fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int], in_strides: Sequence[int], settings: BiFeaturePyramid) -> None:
        super().__init__()
        extra = range(settings.extra_levels)
        self.channels = settings.channels
        self.strides = (*in_strides, *(in_strides[-1] * 2 ** (level + 1) for level in extra))
        self.halve = halving(settings)
        # Only the first extra level is convolved; the others are its maxima.
        self.coarsest = projection(in_channels[-1], settings) if settings.extra_levels else nn.Identity()
        first = [*in_channels, *(settings.channels for _ in extra)]
        usual = [settings.channels] * len(self.strides)
        self.cells = nn.ModuleList(Cell(usual if number else first, settings) for number in range(settings.repeats))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Backbone maps, fine to coarse, to L maps `(N, channels, H_l, W_l)`."""
        maps = list(features)
        for level in range(len(self.strides) - len(features)):
            maps.append(self.halve(maps[-1] if level else self.coarsest(maps[-1])))
        for cell in self.cells:
            maps = cell(maps)
        return tuple(maps)


class Cell(nn.Module):
    """One pass from coarse to fine and back (figure 3).

    Args:
        in_channels: of the L maps, fine to coarse.
        settings: the pyramid's.
    """

    def __init__(self, in_channels: Sequence[int], settings: BiFeaturePyramid) -> None:
        super().__init__()
        channels, last = settings.channels, len(in_channels) - 1
        # Each in the order of its use: levels last - 1 to 0, then levels 1 to last.
        self.down = nn.ModuleList(
            Node((in_channels[level], in_channels[last] if level == last - 1 else channels), settings)
            for level in reversed(range(last))
        )
        self.up = nn.ModuleList(
            Node((in_channels[level], *([channels] if level < last else []), channels), settings, halving(settings))
            for level in range(1, last + 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps `(N, Q_l, H_l, W_l)`, fine to coarse, to L maps `(N, channels, H_l, W_l)`."""
        *finer, coarsest = maps
        inner = [coarsest]
        for node, own in zip(self.down, reversed(finer), strict=True):
            inner.append(node(own, inner[-1]))
        outer = [inner.pop()]
        for node, own in zip(self.up[:-1], maps[1:-1], strict=True):
            outer.append(node(own, inner.pop(), outer[-1]))
        outer.append(self.up[-1](coarsest, outer[-1]))
        return outer


class Node(nn.Module):
    """Fuses maps of one level, and one of a neighbouring level, into a map of the level.

    Args:
        in_channels: of each map; maps with other channels than the pyramid's are convolved first, by a convolution of
            this node's own.
        settings: the pyramid's.
        halve: brings the last map, of the finer level, to the level; None if it is of the coarser level.
    """

    def __init__(self, in_channels: Sequence[int], settings: BiFeaturePyramid, halve: nn.Module | None = None) -> None:
        super().__init__()
        channels = settings.channels
        self.halve = halve
        self.projections = nn.ModuleList(projection(count, settings) for count in in_channels)
        self.weights = nn.Parameter(torch.ones(len(in_channels))) if settings.fusion == "fast" else None
        self.activation = activation(settings.activation)
        self.conv = SeparableConv(channels, channels, bias=settings.bias)
        for weight in (self.conv.depthwise.weight, self.conv.pointwise.weight):
            # Glorot's: channels in and out are as many, and a depthwise convolution has one of each.
            nn.init.uniform_(weight, *_glorot(weight.shape[1] * weight[0][0].numel()))
        self.norm = BatchNorm(channels)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps `(N, Q_i, H_i, W_i)`, the level's own one first and the neighbouring level's last, to one map."""
        inputs = [project(each) for project, each in zip(self.projections, maps, strict=True)]
        if self.halve is None:
            inputs[-1] = F.interpolate(inputs[-1], size=inputs[0].shape[-2:], mode="nearest")
        else:
            inputs[-1] = self.halve(inputs[-1])
        result: Tensor = self.norm(self.conv(self.activation(self._fused(inputs))))
        return result

    def _fused(self, inputs: Sequence[Tensor]) -> Tensor:
        """The weighted mean by non-negative weights (section 3.3, fast normalised fusion), or the sum."""
        if self.weights is None:
            total = inputs[0] + inputs[1]
            for each in inputs[2:]:
                total = total + each
            return total
        weights = self.weights.relu()
        shares = (weights / (weights.sum() + FUSION_EPS)).to(inputs[0].dtype).unbind()
        total = inputs[0] * shares[0]
        for each, share in zip(inputs[1:], shares[1:], strict=True):
            total = torch.addcmul(total, each, share)
        return total


def projection(in_channels: int, settings: BiFeaturePyramid) -> nn.Module:
    """What gives a map the pyramid's channels; nothing for a map that has them."""
    if in_channels == settings.channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, settings.channels, 1, bias=settings.bias)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    block = nn.Sequential()
    block.add_module("conv", conv)
    block.add_module("norm", BatchNorm(settings.channels))
    return block


def halving(settings: BiFeaturePyramid) -> nn.Module:
    """The maxima of 3x3 cells at every second cell."""
    padding = "same" if settings.padding == "same" else ""
    pool: nn.Module = create_pool2d("max", kernel_size=3, stride=2, padding=padding)  # type: ignore[no-untyped-call]
    return pool


def _glorot(fan: int) -> tuple[float, float]:
    limit = math.sqrt(3 / fan)
    return -limit, limit
