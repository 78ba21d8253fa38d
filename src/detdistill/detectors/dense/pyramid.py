"""The pyramids between backbone and head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import BiFeaturePyramid, FeaturePyramid
from detdistill.detectors.dense.bifpn import BiFpn
from detdistill.detectors.dense.choices import ExtraSource


class ExtraLevels(ExtraFPNBlock):  # type: ignore[misc]  # torchvision ships no types
    """Coarser levels by stride-2 convolutions, the first one on the backbone's last map or on the pyramid's.

    Args:
        in_channels: of the backbone's last map.
        channels: of the pyramid.
        count: how many levels to add.
        source: `input` convolves the backbone's last map (RetinaNet), `output` the pyramid's last (FCOS, ATSS, GFL).
        relu: a ReLU before the second and later extra convolutions.
    """

    def __init__(self, in_channels: int, channels: int, count: int, source: ExtraSource, relu: bool) -> None:
        super().__init__()
        self.source = source
        self.relu = relu
        first = in_channels if source == "input" else channels
        self.convs = nn.ModuleList(self._conv(first if level == 0 else channels, channels) for level in range(count))

    @staticmethod
    def _conv(in_channels: int, channels: int) -> nn.Conv2d:
        conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        nn.init.kaiming_uniform_(conv.weight, a=1)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Appends to the pyramid's maps `results`; `x` are the backbone's (torchvision's protocol)."""
        level = x[-1] if self.source == "input" else results[-1]
        for count, conv in enumerate(self.convs):
            level = conv(F.relu(level) if count and self.relu else level)
            results.append(level)
            names.append(f"extra{count}")
        return results, names


class Pyramid(nn.Module):
    """Lin et al. 2017 with extra coarse levels, on torchvision's implementation.

    Attributes:
        channels: channels of every level.
        strides: stride of every level, fine to coarse.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        channels: int = 256,
        extra_levels: int = 2,
        extra_source: ExtraSource = "output",
        extra_relu: bool = False,
    ) -> None:
        super().__init__()
        extra = ExtraLevels(in_channels[-1], channels, extra_levels, extra_source, extra_relu)
        self.fpn = FeaturePyramidNetwork(list(in_channels), channels, extra_blocks=extra)
        self.channels = channels
        self.strides = (*in_strides, *(in_strides[-1] * 2 ** (level + 1) for level in range(extra_levels)))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Backbone maps, fine to coarse, to L maps `(N, channels, H_l, W_l)`."""
        named = OrderedDict((str(level), feature) for level, feature in enumerate(features))
        return tuple(self.fpn(named).values())


def build_pyramid(
    settings: FeaturePyramid | BiFeaturePyramid, in_channels: Sequence[int], in_strides: Sequence[int]
) -> Pyramid | BiFpn:
    """The pyramid of these settings on a backbone's maps.

    Args:
        settings: of an architecture.
        in_channels: of the backbone's maps, fine to coarse.
        in_strides: of the backbone's maps.

    Raises:
        DetdistillError: a BiFPN of a single level.
    """
    if isinstance(settings, BiFeaturePyramid):
        if len(in_channels) + settings.extra_levels < 2:
            raise DetdistillError(
                f"a pyramid of the kind bifpn has the one level of stride {in_strides[0]}; expected at least two: add "
                "strides of the backbone (detector.strides), or set detector.pyramid.extra_levels"
            )
        return BiFpn(in_channels, in_strides, settings)
    return Pyramid(
        in_channels,
        in_strides,
        settings.channels,
        settings.extra_levels,
        settings.extra_source,
        settings.extra_relu,
    )
