from __future__ import annotations

import pytest

from detdistill.core.errors import SettingsError
from detdistill.detectors.importing.config_text import read_config
from detdistill.detectors.importing.mmdet_config import read_mmdet_config
from detdistill.detectors.importing.mmdet_settings import MmdetSettings

VERSION_2 = """
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=50, out_indices=(0, 1, 2, 3), style='caffe'),
    neck=dict(type='FPN', start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead',
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_bbox=dict(type='SmoothL1Loss', beta=0.11)))
test_cfg = dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_thr=0.5), max_per_img=100)
img_norm_cfg = dict(mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(1333, 800),
        flip=False,
        transforms=[dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg)])
]
data = dict(test=dict(type='CocoDataset', pipeline=test_pipeline))
"""
NEW_STYLE = """
model = dict(
    type='mmdet.models.detectors.fcos.FCOS',
    data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True),
    backbone=dict(type='mmdet.models.backbones.resnet.ResNet', depth=50),
    neck=dict(type='mmdet.models.necks.fpn.FPN', start_level=1, add_extra_convs='on_output', num_outs=5),
    bbox_head=dict(type='mmdet.models.dense_heads.fcos_head.FCOSHead', strides=[8, 16, 32, 64, 128]),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
test_dataloader = dict(dataset=dict(pipeline=[dict(type='Resize', scale=[640, 480])]))
"""


def test_version_2() -> None:
    reading = read_mmdet_config(read_config(VERSION_2))
    settings = reading.settings()
    assert settings == MmdetSettings(
        head="retinanet",
        backbone_style="caffe",
        mean=(103.53, 116.28, 123.675),
        std=(1, 1, 1),
        bgr=True,
        extra_source="input",
        extra_relu=False,
        groups=32,
        anchor_scales=settings.anchor_scales,
        anchor_ratios=(0.5, 1, 2),
        score_threshold=0.05,
        iou_threshold=0.5,
        candidates_per_level=1000,
        max_detections=100,
    )
    assert settings.anchor_scales == pytest.approx((4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)))
    assert sorted(reading.defaults) == ["extra_relu", "groups"]
    assert reading.strides == (8, 16, 32, 64, 128)
    assert reading.image_size == (800, 1333)
    assert reading.notes == ["was trained with SmoothL1Loss on boxes; further training here uses L1Loss"]
    assert reading.unsupported == []


def test_classes_by_their_full_names() -> None:
    reading = read_mmdet_config(read_config(NEW_STYLE))
    assert reading.unsupported == []
    assert reading.values["head"] == "fcos"
    assert reading.values["bgr"] is False
    assert reading.image_size == (480, 640)
    fcos = ["normalize_boxes", "centerness_on_box_tower", "center_sampling", "giou"]
    assert set(fcos) < set(reading.defaults)
    assert not any(reading.values[name] for name in fcos)


@pytest.mark.parametrize(
    ("neck", "source"),
    [
        ("add_extra_convs=True", "input"),
        ("add_extra_convs=True, extra_convs_on_inputs=False", "output"),
        ("add_extra_convs='on_output'", "output"),
        ("num_outs=3", None),
    ],
)
def test_where_extra_levels_come_from(neck: str, source: str | None) -> None:
    reading = read_mmdet_config(read_config(VERSION_2.replace("add_extra_convs='on_input'", neck)))
    assert reading.values.get("extra_source") == source


def test_two_stage_detectors_are_named() -> None:
    text = "model = dict(type='FasterRCNN', rpn_head=dict(), roi_head=dict())"
    (unsupported,) = read_mmdet_config(read_config(text)).unsupported
    assert unsupported.startswith("the detector FasterRCNN with rpn_head and roi_head (there are: RetinaHead,")


@pytest.mark.parametrize("text", ["", "model = 3", "model = dict(bbox_head=[dict(type='A')])", "a = 1"])
def test_configs_without_a_detector(text: str) -> None:
    assert read_mmdet_config(read_config(text)).unsupported


def test_a_preprocessor_without_a_mean_leaves_the_input_open() -> None:
    reading = read_mmdet_config(read_config(NEW_STYLE.replace("mean=[1, 2, 3], std=[4, 5, 6], ", "")))
    assert not {"mean", "std", "bgr"} & set(reading.values)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("style='caffe'", "style=pick('caffe')", r"backbone_style must be one of pytorch, caffe or null, not .*pick"),
        ("max_per_img=100", "max_per_img=True", "max_detections must be an integer or null, not true"),
        ("std=[1.0, 1.0, 1.0]", "std=[1.0, 1.0]", "std must be a list of 3 or null"),
    ],
)
def test_values_of_the_wrong_type(old: str, new: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_mmdet_config(read_config(VERSION_2.replace(old, new))).settings()
