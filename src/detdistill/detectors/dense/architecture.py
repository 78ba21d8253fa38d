"""Everything that decides a detector's layers, but its classes. Readable without torch: recipes are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import ArgsKwargs

from detdistill.core.bounds import MOST, MOST_LAYERS, Channels, Factor, Layers, Number, Stride
from detdistill.core.settings import settings, to_values, tuple_of_list
from detdistill.detectors.dense.choices import (
    Activation,
    BackboneStyle,
    EfficientDetPreset,
    ExtraSource,
    Fusion,
    HeadName,
    NetworkName,
    Padding,
    TowerNorm,
)
from detdistill.detectors.dense.efficientdet_scaling import DEFAULT_PRESET, SCALINGS

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
    """Normalisation after each convolution; `level_batch` is a batch norm for each level of the pyramid, which share
    the convolutions (EfficientDet)."""
    groups: Channels | None = None
    """Groups of a group normalisation. Default: groups of 8 channels, as 32 groups of 256 channels have."""
    bias: bool = False
    """Convolutions have a bias although a normalisation follows; without one they always have."""
    deformable: bool = False
    """The last convolution of each stack is a deformable one (DCNv2, arXiv 1811.11168)."""
    separable: bool = False
    """The convolutions are separable: 3x3 in each channel, then 1x1 (EfficientDet)."""
    activation: Activation = "relu"
    """Activation after each convolution."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.deformable and self.separable:
            raise ValueError("deformable and separable exclude each other: set one of them to false")
        return self


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
class BiFeaturePyramid:
    """EfficientDet's pyramid between backbone and head."""

    kind: Literal["bifpn"]
    """Bidirectional Feature Pyramid Network (Tan et al., EfficientDet, CVPR 2020)."""
    channels: Channels = 64
    """Channels of every level, and of the head unless `towers` says otherwise."""
    extra_levels: Annotated[int, Field(ge=0, le=MOST_EXTRA_LEVELS)] = 2
    """Coarser levels beyond the backbone's."""
    repeats: Annotated[int, Field(ge=1, le=MOST_LAYERS)] = 3
    """Cells after each other, each from coarse to fine and back."""
    fusion: Fusion = "fast"
    """How maps are added: `fast` by learned weights whose sum is 1, `sum` as they are."""
    activation: Activation = "silu"
    """Activation before each convolution."""
    padding: Padding = "symmetric"
    """Padding where maps are halved: `same` is TensorFlow's, for weights that were trained with it."""
    bias: bool = False
    """Convolutions have a bias although a normalisation follows, as TensorFlow's weights have."""


def _with_kind(value: Any) -> Any:
    """A pyramid's keys, `fpn` where no kind is given."""
    return {"kind": "fpn", **value} if isinstance(value, Mapping) else value


PyramidSettings = Annotated[FeaturePyramid | BiFeaturePyramid, Field(discriminator="kind"), BeforeValidator(_with_kind)]


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
    pyramid: PyramidSettings = field(default_factory=FeaturePyramid)
    """Pyramid between backbone and head, `fpn` or `bifpn`."""
    towers: Towers | None = None
    """The head's stacks of convolutions. Default: the head's own."""
    options: Mapping[str, bool | Whole | Number | Numbers] = field(default_factory=dict)
    """Further keywords of the head, for example `{center_sampling: true}` for `fcos`."""
    preset: EfficientDetPreset | None = None
    """`efficientdet` only: the size whose backbone, pyramid, towers and anchors it has where they are not given; null
    for `d0`. A recipe without an image size has the preset's, too."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        """EfficientDet's layers, as far as they are not given."""
        if isinstance(values, ArgsKwargs):
            names = [each.name for each in fields(cls)][: len(values.args)]
            given = {**dict(zip(names, values.args, strict=False)), **(values.kwargs or {})}
            return with_preset(given) if given.get("kind") == "efficientdet" else values
        if not isinstance(values, Mapping):
            return values
        given = {name: tuple_of_list(value) for name, value in values.items()}  # it is no longer read as JSON
        return with_preset(given) if given.get("kind") == "efficientdet" else given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.preset is not None and self.kind != "efficientdet":
            raise ValueError(
                f"preset {self.preset} is a size of EfficientDet, and kind is {self.kind}: set kind efficientdet, or "
                "leave preset out"
            )
        return self

    @property
    def name(self) -> str:
        """The detector's name in the literature."""
        return self.kind


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an EfficientDet with those of its preset where they are not given.

    Groups of keys are completed key by key. A backbone with a width or channels of its own is none of the preset's. An
    unknown preset adds nothing: pydantic refuses it.
    """
    wanted = DEFAULT_PRESET if given.get("preset") is None else given["preset"]
    scaling = next((scaling for name, scaling in SCALINGS.items() if name == wanted), None)
    if scaling is None:
        return dict(given)
    activation: Activation = "relu6" if scaling.mobile else "silu"
    pyramid = BiFeaturePyramid(
        kind="bifpn",
        channels=scaling.channels,
        extra_levels=scaling.extra_levels,
        repeats=scaling.repeats,
        fusion=scaling.fusion,
        activation=activation,
        padding="same" if scaling.mobile else "symmetric",
        bias=scaling.mobile,
    )
    towers = Towers(depth=scaling.depth, norm="level_batch", bias=scaling.mobile, separable=True, activation=activation)
    options = {"anchor_scale": scaling.anchor_scale}
    result = {"pyramid": pyramid, "towers": towers, "options": options, **given}
    if not given.keys() & {"backbone_width", "backbone_channels"}:  # those are of ResNets
        result.setdefault("backbone", scaling.backbone)
    for key, preset in (("pyramid", to_values(pyramid)), ("towers", to_values(towers)), ("options", options)):
        own = given.get(key)
        if isinstance(own, Mapping) and own.get("kind", preset.get("kind")) == preset.get("kind"):
            result[key] = {**preset, **own}
    return result


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
