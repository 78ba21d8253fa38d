"""Checkpoints as mmdetection writes them, made of our own small detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.mmdet_keys import mmdet_name
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from support.tiny_detector import tiny_detector

CLASSES = ("cat", "dog")
IMAGENET_INPUT = MmdetSettings(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), bgr=False)
HEAD_TYPES: dict[MmdetHeadName, str] = {
    "retinanet": "type='RetinaHead', anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, "
    "scales_per_octave=3, ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32, 64, 128])",
    "fcos": "type='FCOSHead', norm_on_bbox=True, center_sampling=True, strides=[8, 16, 32, 64, 128], "
    "loss_bbox=dict(type='GIoULoss', loss_weight=1.0)",
    "atss": "type='ATSSHead', anchor_generator=dict(type='AnchorGenerator', octave_base_scale=8, "
    "scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32, 64, 128])",
    "gfl": "type='GFLHead', anchor_generator=dict(type='AnchorGenerator', octave_base_scale=8, "
    "scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32, 64, 128])",
    "gflv2": "type='GFocalHead', loss_cls=dict(type='QualityFocalLoss', use_sigmoid=False), "
    "anchor_generator=dict(type='AnchorGenerator', octave_base_scale=8, "
    "scales_per_octave=1, ratios=[1.0], strides=[8, 16, 32, 64, 128])",
    "vfnet": "type='VFNetHead', strides=[8, 16, 32, 64, 128]",
}


def config_text(head: MmdetHeadName, *, style: str = "pytorch", groups: int = 2) -> str:
    """The configuration of a detector of mmdetection 3.x."""
    return f"""
model = dict(
    type='Any',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[103.53, 116.28, 123.675], std=[1.0, 2.0, 3.0], bgr_to_rgb=False),
    backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN', requires_grad=True), style='{style}'),
    neck=dict(type='FPN', start_level=1, add_extra_convs='on_output', num_outs=5, relu_before_extra_convs=True),
    bbox_head=dict({HEAD_TYPES[head]}, norm_cfg=dict(type='GN', num_groups={groups}, requires_grad=True)),
    test_cfg=dict(nms_pre=500, min_bbox_size=0, score_thr=0.1, nms=dict(type='nms', iou_threshold=0.7), max_per_img=50))
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
]
"""


def small(head: MmdetHeadName, **changes: Any) -> DenseDetector:
    """A detector whose every parameter and buffer is random, as in a trained one."""
    grouped: dict[str, Any] = {"norm": "none"} if head == "retinanet" else {"groups": 2}
    options: dict[str, Any] = {"towers": Towers(depth=2, **grouped), "extra_relu": True}
    detector = tiny_detector(head, CLASSES, **(options | changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in detector.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return detector


def _head(detector: DenseDetector) -> MmdetHeadName:
    return next(head for head in HEAD_TYPES if head == detector.architecture.kind)


def mmdet_state(detector: DenseDetector) -> dict[str, Tensor]:
    """The weights under mmdetection's names."""
    towers = detector.architecture.towers
    norm = "bn" if towers is not None and towers.norm == "batch" else "gn"
    laterals = len(detector.architecture.strides)
    return {mmdet_name(name, _head(detector), norm, laterals): tensor for name, tensor in detector.state_dict().items()}


def checkpoint(detector: DenseDetector, text: str | None = None) -> dict[str, Any]:
    """What mmdetection 3.x saves."""
    meta: dict[str, Any] = {"mmdet_version": "3.3.0", "epoch": 12, "dataset_meta": {"classes": CLASSES}}
    return {
        "meta": meta | {"cfg": config_text(_head(detector)) if text is None else text},
        "state_dict": mmdet_state(detector),
    }


def saved(folder: Path, content: object, name: str = "checkpoint.pth") -> Path:
    """Writes a checkpoint."""
    torch.save(content, folder / name)
    return folder / name
