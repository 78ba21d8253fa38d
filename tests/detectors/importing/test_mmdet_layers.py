from __future__ import annotations

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.choices import ExtraSource, MmdetHeadName
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.mmdet_layers import read_layers
from support.mmdet_files import mmdet_state, small
from support.tiny_detector import layers


@pytest.mark.parametrize(
    ("head", "backbone", "bottleneck"),
    [
        ("retinanet", "resnet18", False),
        ("fcos", "resnet34", False),
        ("atss", "resnet50", True),
        ("gfl", "resnet101", True),
        ("vfnet", "resnet152", True),
        ("gflv2", "resnext50_32x4d", True),
        ("vfnet", "resnext101_32x4d", True),
        ("fcos", "resnext101_64x4d", True),
    ],
)
def test_networks_of_full_size(head: MmdetHeadName, backbone: str, bottleneck: bool) -> None:
    towers = Towers(norm="none" if head == "retinanet" else "group", bias=head == "fcos")
    source: ExtraSource = "input" if head == "retinanet" else "output"
    architecture = layers(head, backbone=backbone, extra_source=source, towers=towers)
    with torch.device("meta"):
        state = mmdet_state(DenseDetector(architecture, [f"class_{index}" for index in range(80)]))
    found = read_layers(state, head)
    assert (found.backbone, found.backbone_channels, found.bottleneck) == (backbone, None, bottleneck)
    assert (found.strides, found.channels, found.extra_levels) == ((8, 16, 32), 256, 2)
    assert found.extra_source == (source if source == "input" else None)
    assert found.towers == towers
    assert found.num_classes == 80
    assert found.anchors == (9 if head == "retinanet" else 1)
    assert found.reg_max == (16 if head.startswith("gfl") else None)


def test_missing_and_misshapen_layers_are_named() -> None:
    state = mmdet_state(small("gfl"))
    missing = {name: tensor for name, tensor in state.items() if not name.startswith("bbox_head.gfl_reg")}
    with pytest.raises(DetdistillError, match=r"bbox_head\.gfl_reg\.weight is missing"):
        read_layers(missing, "gfl")
    with pytest.raises(DetdistillError, match=r"gfl_reg\.weight has the shape \(4,\); expected 4 dimensions"):
        read_layers(state | {"bbox_head.gfl_reg.weight": torch.zeros(4)}, "gfl")
    deep = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.layer4.")}
    with pytest.raises(DetdistillError, match=r"has \(2, 2, 2, 0\) blocks in layer1 to layer4, without bottlenecks"):
        read_layers(deep, "gfl")
    lopsided = state | {"bbox_head.cls_convs.2.conv.weight": torch.zeros(16, 16, 3, 3)}
    with pytest.raises(DetdistillError, match="3 convolutions for classes and 2 for boxes"):
        read_layers(lopsided, "gfl")
    flat = {name: tensor for name, tensor in state.items() if not name.startswith("neck.")}
    with pytest.raises(DetdistillError, match="0 lateral and 0 output convolutions"):
        read_layers(flat, "gfl")
    grouped = state | {"backbone.layer1.0.conv2.weight": torch.zeros(8, 4, 3, 3)}
    with pytest.raises(DetdistillError, match="is a ResNeXt, resnext18_2x4d; supported are"):
        read_layers(grouped, "gfl")
