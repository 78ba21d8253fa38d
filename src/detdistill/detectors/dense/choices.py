"""Words that settings of detectors choose from. Readable without torch and pydantic: help is made of them."""

from __future__ import annotations

from typing import Literal

ExtraSource = Literal["input", "output"]
Fusion = Literal["fast", "sum"]
Padding = Literal["symmetric", "same"]
Activation = Literal["relu", "relu6", "silu"]
TowerNorm = Literal["group", "batch", "level_batch", "none"]
BackboneStyle = Literal["pytorch", "caffe"]
MmdetHeadName = Literal["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"]
HeadName = Literal[MmdetHeadName, "efficientdet"]
NetworkName = Literal["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"]
RcnnName = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]
EfficientDetPreset = Literal[
    "d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d7x", "lite0", "lite1", "lite2", "lite3", "lite3x", "lite4"
]
