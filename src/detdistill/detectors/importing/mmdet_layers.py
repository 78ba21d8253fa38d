"""What the weights of an mmdetection checkpoint tell of its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.backbones import RESNET_CHANNELS
from detdistill.detectors.dense.choices import ExtraSource, MmdetHeadName, TowerNorm
from detdistill.detectors.importing.mmdet_keys import BOX_PREDICTORS, CLASS_PREDICTORS

BASIC_DEPTHS: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "18", (3, 4, 6, 3): "34"}
BOTTLENECK_DEPTHS: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "50", (3, 4, 23, 3): "101", (3, 8, 36, 3): "152"}
RESNEXTS = ("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d")
BACKBONE_STRIDES = (4, 8, 16, 32)
OFFSETS = "conv2.conv_offset"


@dataclass(frozen=True)
class MmdetLayers:
    """The layers behind a state dict.

    Attributes:
        backbone: name of the backbone.
        backbone_channels: of its four stages, or None if they are the usual ones.
        bottleneck: the backbone has bottlenecks, so it is of the style pytorch or caffe.
        deformable: stages of the backbone with deformable convolutions.
        strides: backbone levels that the pyramid uses.
        channels: of the pyramid.
        extra_levels: beyond the backbone's.
        extra_source: `input` where the shapes show it, else None.
        towers: the head's stacks, but for the number of groups.
        anchors: per cell.
        num_classes: C.
        reg_max: of GFL's distributions, or None.
    """

    backbone: str
    backbone_channels: tuple[int, int, int, int] | None
    bottleneck: bool
    deformable: tuple[int, ...]
    strides: tuple[int, ...]
    channels: int
    extra_levels: int
    extra_source: ExtraSource | None
    towers: Towers
    anchors: int
    num_classes: int
    reg_max: int | None


def read_layers(state: Mapping[str, Tensor], head: MmdetHeadName) -> MmdetLayers:
    """Reads depth, widths, levels, towers and classes off the shapes.

    Args:
        state: mmdetection's keys without prefixes.
        head: the kind of detector.

    Raises:
        DetdistillError: a layer that every such detector has is missing or misshapen, or the backbone is no plain
            ResNet or ResNeXt.
    """
    name, channels, bottleneck = read_backbone_layers(state)
    expansion = 4 if bottleneck else 1
    stages = [stage * expansion for stage in channels or RESNET_CHANNELS]
    laterals = count(state, "neck.lateral_convs.")
    outputs = count(state, "neck.fpn_convs.")
    if not 0 < laterals <= len(stages) or outputs < laterals:
        raise DetdistillError(f"its pyramid has {laterals} lateral and {outputs} output convolutions; is it an FPN?")
    width = shape(state, "neck.fpn_convs.0.conv.weight", 4)[0]
    extra_levels = outputs - laterals
    extra_source: ExtraSource | None = None
    if extra_levels and stages[-1] != width:
        first = shape(state, f"neck.fpn_convs.{laterals}.conv.weight", 4)[1]
        extra_source = "input" if first == stages[-1] else None
    towers = _towers(state, width)
    classes = shape(state, f"bbox_head.{CLASS_PREDICTORS[head]}.weight", 4)[0]
    sides = shape(state, f"bbox_head.{BOX_PREDICTORS[head]}.weight", 4)[0]
    anchors = max(sides // 4, 1) if head == "retinanet" else 1
    return MmdetLayers(
        backbone=name,
        backbone_channels=channels,
        bottleneck=bottleneck,
        deformable=tuple(stage for stage in range(1, 5) if f"backbone.layer{stage}.0.{OFFSETS}.weight" in state),
        strides=BACKBONE_STRIDES[-laterals:],
        channels=width,
        extra_levels=extra_levels,
        extra_source=extra_source,
        towers=towers,
        anchors=anchors,
        num_classes=classes // anchors,
        reg_max=sides // 4 - 1 if head in ("gfl", "gflv2") else None,
    )


def shape(state: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor with so many dimensions; raises `DetdistillError` if it is missing or misshapen."""
    if key not in state:
        raise DetdistillError(f"{key} is missing")
    shape = tuple(state[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise DetdistillError(f"{key} has the shape {shape}; expected {dimensions} dimensions")
    return shape


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered modules start with `prefix`."""
    numbers = {match[1] for key in state if (match := re.match(re.escape(prefix) + r"(\d+)\.", key))}
    return len(numbers)


def read_backbone_layers(state: Mapping[str, Tensor]) -> tuple[str, tuple[int, int, int, int] | None, bool]:
    """The backbone's name, its channels if they are not the usual ones, and whether it has bottlenecks."""
    blocks = tuple(count(state, f"backbone.layer{stage}.") for stage in range(1, 5))
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    if any(key.startswith("backbone.stem.") for key in state):
        raise DetdistillError("its backbone has a deep stem (ResNet-C, -D or -S); plain ResNets are supported")
    depth = (BOTTLENECK_DEPTHS if bottleneck else BASIC_DEPTHS).get(blocks)
    if depth is None:
        raise DetdistillError(
            f"its backbone has {blocks} blocks in layer1 to layer4, {'with' if bottleneck else 'without'} bottlenecks; "
            "ResNet-18, -34, -50, -101 and -152 are supported"
        )
    widths = [shape(state, f"backbone.layer{stage}.0.conv1.weight", 4)[0] for stage in range(1, 5)]
    out, inner = shape(state, "backbone.layer1.0.conv2.weight", 4)[:2]
    groups = out // inner
    if groups > 1:
        name = f"resnext{depth}_{groups}x{out // groups}d"
        if name not in RESNEXTS or widths != [out, 2 * out, 4 * out, 8 * out]:
            raise DetdistillError(f"its backbone is a ResNeXt, {name}; supported are {', '.join(RESNEXTS)}")
        return name, None, True
    first, second, third, fourth = widths
    channels = None if tuple(widths) == RESNET_CHANNELS else (first, second, third, fourth)
    return f"resnet{depth}", channels, bottleneck


def _towers(state: Mapping[str, Tensor], pyramid_channels: int) -> Towers:
    depth = count(state, "bbox_head.cls_convs.")
    boxes = count(state, "bbox_head.reg_convs.")
    if depth != boxes:
        raise DetdistillError(f"its head stacks {depth} convolutions for classes and {boxes} for boxes, not as many")
    if not depth:
        return Towers(depth=0)
    channels = shape(state, "bbox_head.cls_convs.0.conv.weight", 4)[0]
    norm: TowerNorm = "none"
    if "bbox_head.cls_convs.0.gn.weight" in state:
        norm = "group"
    elif "bbox_head.cls_convs.0.bn.weight" in state:
        norm = "batch"
    return Towers(
        channels=None if channels == pyramid_channels else channels,
        depth=depth,
        norm=norm,
        bias=norm != "none" and "bbox_head.cls_convs.0.conv.bias" in state,
        deformable=f"bbox_head.cls_convs.{depth - 1}.conv.conv_offset.weight" in state,
    )
