"""What the weights of an mmdetection checkpoint cannot tell. Readable without torch: the command line is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.detectors.dense.choices import BackboneStyle, ExtraSource, MmdetHeadName


@dataclass(frozen=True, kw_only=True)
class MmdetSettings:
    """Everything that decides a detector's output or its training, and leaves no trace in its weights; None: unknown.

    Attributes:
        head: The kind of detector: retinanet, fcos, atss, gfl, gflv2 or vfnet (config: model.bbox_head.type).
        backbone_style: Where a ResNet's bottlenecks halve the map: pytorch or caffe (config:
            model.backbone.style).
        mean: Subtracted from pixels of 0 to 255, in the network's order of channels (config: mean;
            [123.675,116.28,103.53] with torchvision's backbones).
        std: Pixels are divided by it, in the network's order of channels (config: std; [58.395,57.12,57.375]
            with torchvision's backbones).
        bgr: The network takes blue, green, red (config: bgr_to_rgb or to_rgb, which say the opposite).
        extra_source: The map that the extra coarse levels are made from: input or output (config:
            model.neck.add_extra_convs).
        extra_relu: A ReLU before the second extra level (config: model.neck.relu_before_extra_convs).
        groups: Groups of the head's group normalisation (config: model.bbox_head.norm_cfg.num_groups).
        anchor_scales: Sides of a cell's anchors in strides (config: model.bbox_head.anchor_generator:
            octave_base_scale times 2^(k / scales_per_octave), or scales).
        anchor_ratios: Height over width of the anchors (config: model.bbox_head.anchor_generator.ratios).
        normalize_boxes: FCOS: distances in strides (config: model.bbox_head.norm_on_bbox).
        centerness_on_box_tower: FCOS: centerness from the box tower (config:
            model.bbox_head.centerness_on_reg).
        center_sampling: FCOS: only points near an object's centre learn it (config:
            model.bbox_head.center_sampling).
        giou: FCOS: GIoU loss instead of IoU loss (config: model.bbox_head.loss_bbox.type).
        score_threshold: Least class score (config: model.test_cfg.score_thr).
        iou_threshold: Overlap that NMS suppresses (config: model.test_cfg.nms.iou_threshold).
        candidates_per_level: Candidates before NMS (config: model.test_cfg.nms_pre).
        max_detections: Detections per image (config: model.test_cfg.max_per_img).
        class_agnostic: NMS among the boxes of all classes; off if not given (config:
            model.test_cfg.nms.class_agnostic).
    """

    head: MmdetHeadName | None = None
    backbone_style: BackboneStyle | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    bgr: bool | None = None
    extra_source: ExtraSource | None = None
    extra_relu: bool | None = None
    groups: int | None = None
    anchor_scales: tuple[float, ...] | None = None
    anchor_ratios: tuple[float, ...] | None = None
    normalize_boxes: bool | None = None
    centerness_on_box_tower: bool | None = None
    center_sampling: bool | None = None
    giou: bool | None = None
    score_threshold: float | None = None
    iou_threshold: float | None = None
    candidates_per_level: int | None = None
    max_detections: int | None = None
    class_agnostic: bool | None = None
