"""Words that settings of detectors choose from. Readable without torch and pydantic: help is made of them."""

from __future__ import annotations

from typing import Literal

ExtraSource = Literal["input", "output"]
TowerNorm = Literal["group", "batch", "none"]
BackboneStyle = Literal["pytorch", "caffe"]
HeadName = Literal["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"]
NetworkName = Literal["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"]
RcnnName = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]
