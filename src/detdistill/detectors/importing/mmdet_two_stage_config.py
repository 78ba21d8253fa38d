"""mmdetection's configuration of a two-stage detector, 2.x and 3.x, in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from detdistill.detectors.importing.mmdet_config import (
    STUDENTS,
    ConfigReading,
    numbers,
    read_backbone,
    read_images,
    read_neck,
    require,
    section,
    shown,
    type_name,
)

KINDS = {"FasterRCNN": "faster_rcnn", "MaskRCNN": "mask_rcnn", "CascadeRCNN": "cascade_rcnn"}
HEADS = "Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead", "ConvFCBBoxHead"
FINEST_SCALE = 56


@dataclass
class TwoStageReading:
    """What a configuration says of a two-stage detector.

    Attributes:
        common: of backbone, pyramid and images; its `unsupported` and `notes` are of everything.
        kind: of the detector, as in `TwoStageArchitecture`; None if it is none of ours.
        proposals: keys of `RegionProposals`.
        regions: keys of `RegionHeads`.
        masks: keys of `MaskBranch`; empty without one.
        postprocessing: keys of `PostProcessing`.
    """

    common: ConfigReading = field(default_factory=ConfigReading)
    kind: str | None = None
    proposals: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Any] = field(default_factory=dict)
    postprocessing: dict[str, Any] = field(default_factory=dict)


def read_two_stage_config(config: Mapping[str, Any]) -> TwoStageReading:
    """Translate a configuration.

    Args:
        config: what `read_config` returned.
    """
    reading = TwoStageReading()
    common = reading.common
    model = section(config, "model", common, "model")
    inner = next((model[key] for key in STUDENTS if isinstance(model.get(key), dict)), None)
    if inner is not None and "roi_head" not in model:
        model = {"data_preprocessor": model.get("data_preprocessor")} | inner
    reading.kind = KINDS.get(type_name(model))
    if reading.kind is None:
        common.unsupported.append(f"the detector {type_name(model) or 'of no type'} (two-stage: {', '.join(KINDS)})")
        return reading
    read_backbone(section(model, "backbone", common, "model.backbone"), common)
    read_neck(section(model, "neck", common, "model.neck"), common)
    read_images(config, model, common)
    cfg = {
        name: section(model, name, common, f"model.{name}") or section(config, name, common, name)
        for name in ("train_cfg", "test_cfg")
    }
    _read_proposals(section(model, "rpn_head", common, "model.rpn_head"), cfg, reading)
    roi_head = section(model, "roi_head", common, "model.roi_head")
    _read_regions(roi_head, cfg, reading)
    if roi_head.get("mask_head") is not None:
        reading.kind = "cascade_mask_rcnn" if reading.kind == "cascade_rcnn" else "mask_rcnn"
        _read_masks(roi_head, reading)
    return reading


def _read_proposals(head: Mapping[str, Any], cfg: Mapping[str, dict[str, Any]], reading: TwoStageReading) -> None:
    common, where = reading.common, "model.rpn_head"
    if type_name(head) != "RPNHead":
        common.unsupported.append(f"proposals by {type_name(head) or 'nothing'}; RPNHead is supported")
        return
    anchors = section(head, "anchor_generator", common, f"{where}.anchor_generator")
    require(common, anchors, f"{where}.anchor_generator", center_offset=0, base_sizes=None, centers=None)
    for ours, theirs in (("anchor_scales", "scales"), ("anchor_ratios", "ratios")):
        value = anchors.get(theirs)
        if numbers(value):
            reading.proposals[ours] = [float(number) for number in value]
        else:
            common.unsupported.append(f"{where}.anchor_generator.{theirs}={shown(value)}; expected numbers")
    strides = anchors.get("strides")
    common.strides = tuple(strides) if numbers(strides) else None
    coder = section(head, "bbox_coder", common, f"{where}.bbox_coder")
    require(common, coder, f"{where}.bbox_coder", target_means=[0, 0, 0, 0], target_stds=[1, 1, 1, 1])
    reading.proposals["smoothness"] = _smoothness(head, where, common)
    rpn = section(cfg["train_cfg"], "rpn", common, "train_cfg.rpn")
    assigner = section(rpn, "assigner", common, "train_cfg.rpn.assigner")
    require(common, assigner, "train_cfg.rpn.assigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    border = rpn.get("allowed_border", 0)
    reading.proposals["inside_only"] = border == 0
    if border not in (0, -1):
        common.notes.append(f"train_cfg.rpn.allowed_border={shown(border)}: further training here takes all anchors")
    sampler = section(rpn, "sampler", common, "train_cfg.rpn.sampler")
    reading.proposals["sampled"] = sampler.get("num", 256)
    test = section(cfg["test_cfg"], "rpn", common, "test_cfg.rpn")
    train = section(cfg["train_cfg"], "rpn_proposal", common, "train_cfg.rpn_proposal") or test
    for source, names in ((test, ("per_level", "kept")), (train, ("training_per_level", "training_kept"))):
        for name, keys in zip(names, (("nms_pre",), ("max_per_img", "nms_post", "max_num")), strict=True):
            value = next((source[key] for key in keys if key in source), None)
            if value is not None:
                reading.proposals[name] = value
    threshold = _iou_threshold(test)
    if threshold is not None:
        reading.proposals["iou_threshold"] = threshold
    if test.get("min_bbox_size", 0) > 0:
        common.notes.append(f"test_cfg.rpn.min_bbox_size={shown(test['min_bbox_size'])} is left out")


def _read_regions(head: Mapping[str, Any], cfg: Mapping[str, dict[str, Any]], reading: TwoStageReading) -> None:
    common, where = reading.common, "model.roi_head"
    extractors = head.get("bbox_roi_extractor")
    extractor = extractors[0] if isinstance(extractors, list | tuple) and extractors else extractors
    extractor = extractor if isinstance(extractor, dict) else {}
    if type_name(extractor) != "SingleRoIExtractor":
        common.unsupported.append(f"{where}.bbox_roi_extractor: SingleRoIExtractor is supported")
    require(common, extractor, f"{where}.bbox_roi_extractor", finest_scale=FINEST_SCALE)
    layer = section(extractor, "roi_layer", common, f"{where}.bbox_roi_extractor.roi_layer")
    require(common, layer, f"{where}.bbox_roi_extractor.roi_layer", type="RoIAlign", pool_mode="avg")
    reading.regions |= {
        "size": layer.get("output_size", 7),
        "aligned": layer.get("aligned", True),
        "points": layer.get("sampling_ratio", 0),
    }
    heads = head.get("bbox_head")
    heads = list(heads) if isinstance(heads, list | tuple) else [heads]
    steps = cfg["train_cfg"].get("rcnn")
    steps = list(steps) if isinstance(steps, list | tuple) else [steps] * len(heads)
    weights = head.get("stage_loss_weights", [1] * len(heads))
    stages = []
    for number, one in enumerate(heads):
        own = f"{where}.bbox_head[{number}]"
        one = one if isinstance(one, dict) else {}
        if type_name(one) not in HEADS:
            common.unsupported.append(f"{own}: {type_name(one) or 'no type'}; {', '.join(HEADS)} are supported")
            return
        coder = section(one, "bbox_coder", common, f"{own}.bbox_coder")
        require(common, coder, f"{own}.bbox_coder", target_means=[0, 0, 0, 0])
        require(common, one, own, reg_decoded_bbox=False)
        rcnn = steps[number] if number < len(steps) and isinstance(steps[number], dict) else {}
        positive = section(rcnn, "assigner", common, "train_cfg.rcnn.assigner").get("pos_iou_thr", 0.5)
        stages.append(
            {
                "positive": positive,
                "deviations": list(map(float, coder.get("target_stds", [0.1, 0.1, 0.2, 0.2]))),
                "weight": float(weights[number]) if number < len(weights) else 1.0,
            }
        )
        reading.regions["smoothness"] = _smoothness(one, own, common)
        sampler = section(rcnn, "sampler", common, "train_cfg.rcnn.sampler")
        reading.regions |= {"sampled": sampler.get("num", 512), "positive_share": sampler.get("pos_fraction", 0.25)}
    reading.regions["stages"] = stages
    test = section(cfg["test_cfg"], "rcnn", common, "test_cfg.rcnn")
    for ours, theirs in (("score_threshold", "score_thr"), ("max_detections", "max_per_img")):
        if theirs in test:
            reading.postprocessing[ours] = test[theirs]
    threshold = _iou_threshold(test)
    if threshold is not None:
        reading.postprocessing["iou_threshold"] = threshold


def _read_masks(head: Mapping[str, Any], reading: TwoStageReading) -> None:
    common, where = reading.common, "model.roi_head"
    heads = head["mask_head"]
    first = heads[0] if isinstance(heads, list | tuple) and heads else heads
    first = first if isinstance(first, dict) else {}
    if type_name(first) != "FCNMaskHead":
        common.unsupported.append(f"{where}.mask_head: {type_name(first) or 'no type'}; FCNMaskHead is supported")
    require(common, first, f"{where}.mask_head", upsample_cfg={"type": "deconv", "scale_factor": 2}, norm_cfg=None)
    extractors = head.get("mask_roi_extractor") or head.get("bbox_roi_extractor")
    extractor = extractors[0] if isinstance(extractors, list | tuple) and extractors else extractors
    extractor = extractor if isinstance(extractor, dict) else {}
    layer = section(extractor, "roi_layer", common, f"{where}.mask_roi_extractor.roi_layer")
    require(
        common,
        layer,
        f"{where}.mask_roi_extractor.roi_layer",
        type="RoIAlign",
        aligned=reading.regions["aligned"],
        sampling_ratio=reading.regions["points"],
    )
    reading.masks["size"] = layer.get("output_size", 14)


def _iou_threshold(test: Mapping[str, Any]) -> Any:
    """That of NMS; None where the configuration does not tell."""
    nms = test.get("nms")
    if isinstance(nms, dict):
        return nms.get("iou_threshold", nms.get("iou_thr"))
    return test.get("nms_thr")


def _smoothness(head: Mapping[str, Any], where: str, common: ConfigReading) -> float:
    """β of the smooth L1 loss of boxes; 0 is L1."""
    loss = section(head, "loss_bbox", common, f"{where}.loss_bbox")
    if type_name(loss) in ("", "L1Loss"):
        return 0.0
    if type_name(loss) != "SmoothL1Loss":
        common.notes.append(f"{where} was trained with {type_name(loss)} on boxes; further training here uses L1")
        return 0.0
    return float(loss.get("beta", 1.0))
