"""Everything that decides a detector's layers, but its classes. Readable without torch: recipes are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from detdistill.core.errors import DetdistillError

ExtraSource = Literal["input", "output"]
TowerNorm = Literal["group", "batch", "none"]
BackboneStyle = Literal["pytorch", "caffe"]
HeadName = Literal["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"]


@dataclass(frozen=True)
class Towers:
    """A head's two stacks of convolutions, one for classes and one for boxes, shared by all levels.

    Attributes:
        channels: of every convolution; None keeps the pyramid's.
        depth: convolutions per stack; 0 for none.
        norm: normalisation after each convolution.
        groups: of a group normalisation; None makes groups of 8 channels, as 32 groups of 256 channels have.
        bias: convolutions have a bias although a normalisation follows; without one they always have.
        deformable: the last convolution of each stack is a deformable one (DCNv2, arXiv 1811.11168).
    """

    channels: int | None = None
    depth: int = 4
    norm: TowerNorm = "group"
    groups: int | None = None
    bias: bool = False
    deformable: bool = False

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range."""
        _check(
            {
                f"towers.channels must be at least 1, not {self.channels}": self.channels is None or self.channels >= 1,
                f"towers.depth must be at least 0, not {self.depth}": self.depth >= 0,
                f"towers.groups must be at least 1, not {self.groups}": self.groups is None or self.groups >= 1,
            }
        )


@dataclass(frozen=True)
class Architecture:
    """The layers of a `DenseDetector`.

    Attributes:
        head: which detection head.
        backbone: `resnet18` to `resnet152`, `mobilenetv2`, or any timm model that offers feature maps.
        backbone_width: factor on the backbone's channels (ResNets and MobileNetV2).
        backbone_channels: channels of a ResNet's four stages, before a bottleneck's expansion, instead of the factor.
        backbone_style: where a ResNet's bottlenecks halve the map: `pytorch` in the 3x3 convolution, `caffe` in the
            first 1x1, as weights from Caffe and Detectron expect.
        backbone_deformable: stages, 1 to 4, in which the 3x3 convolutions of a ResNet's bottlenecks are deformable (Zhu
            et al., Deformable ConvNets v2, CVPR 2019).
        strides: backbone levels that the pyramid uses; (4, 8, 16, 32) for small objects.
        channels: of the pyramid, and of the head unless `towers` says otherwise.
        extra_levels: coarser levels beyond the backbone's.
        extra_source: `input` makes them from the backbone's last map, `output` from the pyramid's.
        extra_relu: a ReLU before the second and later extra levels.
        towers: the head's stacks of convolutions; None for the head's own default.
        options: further keywords of the head, for example `{"center_sampling": True}` for FCOS.
    """

    head: HeadName = "gfl"
    backbone: str = "resnet18"
    backbone_width: float = 1.0
    backbone_channels: tuple[int, int, int, int] | None = None
    backbone_style: BackboneStyle = "pytorch"
    backbone_deformable: tuple[int, ...] = ()
    strides: tuple[int, ...] = (8, 16, 32)
    channels: int = 256
    extra_levels: int = 2
    extra_source: ExtraSource = "output"
    extra_relu: bool = False
    towers: Towers | None = None
    options: Mapping[str, bool | int | float | tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a value out of range."""
        stages = self.backbone_channels
        _check(
            {
                f"backbone_width must be above 0, not {self.backbone_width}": self.backbone_width > 0,
                f"backbone_channels must be four numbers of at least 1, not {stages}": stages is None
                or (len(stages) == 4 and min(stages) >= 1),
                f"channels must be at least 1, not {self.channels}": self.channels >= 1,
                f"extra_levels must be at least 0, not {self.extra_levels}": self.extra_levels >= 0,
            }
        )


def _check(rules: Mapping[str, bool]) -> None:
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise DetdistillError(f"architecture: {'; '.join(broken)}")
