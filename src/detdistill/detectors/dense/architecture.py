"""Everything that decides a detector's layers, but its classes. Readable without torch: recipes are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from detdistill.core.bounds import MOST, Channels, Factor, Layers, Number, Stride
from detdistill.core.settings import settings, tuple_of_list
from detdistill.detectors.dense.choices import BackboneStyle, ExtraSource, HeadName, NetworkName, TowerNorm

WIDEST = 16.0
"""Factor on a backbone's channels. Wide ResNets have 2."""
MOST_EXTRA_LEVELS = 8
"""Levels beyond the backbone's. RetinaNet has 2; each halves the map."""
MOST_LEVELS = 16
"""Levels of a pyramid, and numbers of an option that has one for each of them."""

Numbers = Annotated[tuple[Number, ...], BeforeValidator(tuple_of_list), Field(max_length=MOST_LEVELS)]
Whole = Annotated[int, Field(ge=-MOST, le=MOST)]


@settings
class Towers:
    """A head's two stacks of convolutions, one for classes and one for boxes, shared by all levels."""

    channels: Channels | None = None
    """Channels of every convolution. Default: the pyramid's."""
    depth: Layers = 4
    """Convolutions per stack."""
    norm: TowerNorm = "group"
    """Normalisation after each convolution."""
    groups: Channels | None = None
    """Groups of a group normalisation. Default: groups of 8 channels, as 32 groups of 256 channels have."""
    bias: bool = False
    """Convolutions have a bias although a normalisation follows; without one they always have."""
    deformable: bool = False
    """The last convolution of each stack is a deformable one (DCNv2, arXiv 1811.11168)."""


@settings
class FeaturePyramid:
    """The pyramid between backbone and head."""

    kind: Literal["fpn"] = "fpn"
    """Feature Pyramid Network (Lin et al., CVPR 2017)."""
    channels: Channels = 256
    """Channels of every level, and of the head unless `towers` says otherwise."""
    extra_levels: Annotated[int, Field(ge=0, le=MOST_EXTRA_LEVELS)] = 2
    """Coarser levels beyond the backbone's."""
    extra_source: ExtraSource = "output"
    """Map that the extra levels are made from: the backbone's last (`input`) or the pyramid's (`output`)."""
    extra_relu: bool = False
    """A ReLU before the second and later extra levels."""


@settings
class Architecture:
    """The layers of a `DenseDetector`: a backbone, a pyramid and a head."""

    kind: HeadName = "gfl"
    """Detection head."""
    backbone: str = "resnet18"
    """`resnet18` to `resnet152`, `mobilenetv2`, or any timm model that offers feature maps."""
    backbone_width: Annotated[float, Field(gt=0, le=WIDEST)] = 1.0
    """Factor on the backbone's channels (ResNets and MobileNetV2)."""
    backbone_channels: tuple[Channels, Channels, Channels, Channels] | None = None
    """Channels of a ResNet's four stages, before a bottleneck's expansion, instead of the factor."""
    backbone_style: BackboneStyle = "pytorch"
    """Where a ResNet's bottlenecks halve the map: `pytorch` in the 3x3 convolution, `caffe` in the first 1x1, as
    weights from Caffe and Detectron expect."""
    backbone_deformable: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(max_length=4)] = ()
    """Stages, 1 to 4, in which the 3x3 convolutions of a ResNet's bottlenecks are deformable (Zhu et al., Deformable
    ConvNets v2, CVPR 2019)."""
    strides: Annotated[tuple[Stride, ...], Field(max_length=MOST_LEVELS)] = (8, 16, 32)
    """Strides of the backbone's maps that the pyramid uses; `[4, 8, 16, 32]` for small objects."""
    pyramid: FeaturePyramid = field(default_factory=FeaturePyramid)
    """Pyramid between backbone and head."""
    towers: Towers | None = None
    """The head's stacks of convolutions. Default: the head's own."""
    options: Mapping[str, bool | Whole | Number | Numbers] = field(default_factory=dict)
    """Further keywords of the head, for example `{center_sampling: true}` for `fcos`."""

    @property
    def name(self) -> str:
        """The detector's name in the literature."""
        return self.kind


@settings
class TorchvisionArchitecture:
    """The layers of a `TorchvisionDetector`."""

    name: NetworkName
    """torchvision's name of the model."""
    frozen_norm_eps: Factor | None = None
    """What the frozen batch norms of the backbone add to variances; null for batch norms that learn. torchvision
    freezes those of `retinanet_resnet50_fpn` and `fcos_resnet50_fpn` when it starts from pretrained weights."""
    kind: Literal["torchvision"] = "torchvision"
    """A detector of torchvision."""

    @model_validator(mode="after")
    def _has_frozen_form(self) -> Self:
        if self.frozen_norm_eps is not None and self.name == "retinanet_resnet50_fpn_v2":
            raise ValueError(f"{self.name} has no frozen batch norms: leave frozen_norm_eps out")
        return self
