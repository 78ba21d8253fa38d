"""What the weights of an mmdetection checkpoint cannot tell. Readable without torch: the command line is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from detdistill.detectors.dense.architecture import BackboneStyle, ExtraSource, HeadName


@dataclass(frozen=True, kw_only=True)
class MmdetSettings:
    """Everything that decides a detector's output or its training, and leaves no trace in its weights; None: unknown.

    Each field's note says what it is and where mmdetection's configuration has it.
    """

    head: Annotated[
        HeadName | None,
        "the kind of detector: retinanet, fcos, atss, gfl, gflv2 or vfnet (config: model.bbox_head.type)",
    ] = None
    backbone_style: Annotated[
        BackboneStyle | None,
        "pytorch or caffe: where a ResNet's bottlenecks halve the map (config: model.backbone.style)",
    ] = None
    mean: Annotated[
        tuple[float, float, float] | None,
        "subtracted from pixels of 0 to 255, in the network's order of channels (config: mean; "
        "[123.675,116.28,103.53] with torchvision's backbones)",
    ] = None
    std: Annotated[
        tuple[float, float, float] | None,
        "pixels are divided by it, in the network's order of channels (config: std; [58.395,57.12,57.375] with "
        "torchvision's backbones)",
    ] = None
    bgr: Annotated[
        bool | None, "the network takes blue, green, red (config: bgr_to_rgb or to_rgb, which say the opposite)"
    ] = None
    extra_source: Annotated[
        ExtraSource | None,
        "input or output: the map that the extra coarse levels are made from (config: model.neck.add_extra_convs)",
    ] = None
    extra_relu: Annotated[
        bool | None, "a ReLU before the second extra level (config: model.neck.relu_before_extra_convs)"
    ] = None
    groups: Annotated[
        int | None, "groups of the head's group normalisation (config: model.bbox_head.norm_cfg.num_groups)"
    ] = None
    anchor_scales: Annotated[
        tuple[float, ...] | None,
        "sides of a cell's anchors in strides (config: model.bbox_head.anchor_generator: octave_base_scale times "
        "2^(k / scales_per_octave), or scales)",
    ] = None
    anchor_ratios: Annotated[
        tuple[float, ...] | None, "height over width of the anchors (config: model.bbox_head.anchor_generator.ratios)"
    ] = None
    normalize_boxes: Annotated[bool | None, "FCOS: distances in strides (config: model.bbox_head.norm_on_bbox)"] = None
    centerness_on_box_tower: Annotated[
        bool | None, "FCOS: centerness from the box tower (config: model.bbox_head.centerness_on_reg)"
    ] = None
    center_sampling: Annotated[
        bool | None, "FCOS: only points near an object's centre learn it (config: model.bbox_head.center_sampling)"
    ] = None
    giou: Annotated[bool | None, "FCOS: GIoU loss instead of IoU loss (config: model.bbox_head.loss_bbox.type)"] = None
    score_threshold: Annotated[float | None, "least class score (config: model.test_cfg.score_thr)"] = None
    iou_threshold: Annotated[float | None, "overlap that NMS suppresses (config: model.test_cfg.nms.iou_threshold)"] = (
        None
    )
    candidates_per_level: Annotated[int | None, "candidates before NMS (config: model.test_cfg.nms_pre)"] = None
    max_detections: Annotated[int | None, "detections per image (config: model.test_cfg.max_per_img)"] = None
    class_agnostic: Annotated[
        bool | None, "NMS among the boxes of all classes; off if not given (config: model.test_cfg.nms.class_agnostic)"
    ] = None
