"""mmdetection's names of parameters and buffers, 2.x and 3.x, in ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from detdistill.detectors.dense.choices import MmdetHeadName

CLASS_PREDICTORS: dict[MmdetHeadName, str] = {
    "retinanet": "retina_cls",
    "fcos": "conv_cls",
    "atss": "atss_cls",
    "gfl": "gfl_cls",
    "gflv2": "gfl_cls",
    "vfnet": "vfnet_cls",
}
BOX_PREDICTORS: dict[MmdetHeadName, str] = {
    "retinanet": "retina_reg",
    "fcos": "conv_reg",
    "atss": "atss_reg",
    "gfl": "gfl_reg",
    "gflv2": "gfl_reg",
    "vfnet": "vfnet_reg",
}
HEAD_MODULES: dict[MmdetHeadName, dict[str, str]] = {
    "retinanet": {},
    "fcos": {"centerness_predictor": "conv_centerness"},
    "atss": {"centerness_predictor": "atss_centerness"},
    "gfl": {},
    "gflv2": {"quality.layers": "reg_conf"},
    "vfnet": {
        "initial_block": "vfnet_reg_conv",
        "initial_predictor": "vfnet_reg",
        "initial_scales": "scales",
        "refined_conv": "vfnet_reg_refine_dconv",
        "refined_predictor": "vfnet_reg_refine",
        "refined_scales": "scales_refine",
        "class_conv": "vfnet_cls_dconv",
    },
}
OLD_FCOS = {"fcos_cls": "conv_cls", "fcos_reg": "conv_reg", "fcos_centerness": "conv_centerness"}
TORCHVISION_LOGITS = "head.classification_head.cls_logits"
BIN_VALUES = "bbox_head.integral.project"
"""A constant of GFL's heads that is saved like a weight: the distances 0, 1, 2, … that its bins stand for."""
CLASSIFIER = ("backbone.fc.weight", "backbone.fc.bias")
OTHER_DETECTORS = {
    "head.classification_head.module_list.": "torchvision's SSD",
    "roi_heads.": "torchvision's two-stage detectors (Faster, Mask or Keypoint R-CNN)",
    "roi_head.": "a two-stage detector (Faster, Mask or Cascade R-CNN)",
    "rpn_head.": "a two-stage detector's proposal network",
    "query_embedding.": "a transformer detector (DETR family)",
    "bbox_head.transformer.": "a transformer detector (DETR family)",
    "encoder.": "a transformer detector (DETR family)",
    "bbox_head.multi_level_conv_cls.": "YOLOX",
    "bbox_head.rtm_cls.": "RTMDet",
    "bbox_head.reppoints_cls_conv.": "RepPoints",
    "bbox_head.convs_pred.": "YOLOv3",
    "bbox_head.heatmap_head.": "CenterNet",
    "bbox_head.cls_convs.0.0.": "a detector with a head of its own per level",
}


def newest_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of mmdetection 3.x, without an ImageNet classifier on the backbone.

    Args:
        state: tensors by the names of any version.
    """
    result = {}
    for name, tensor in state.items():
        if name not in CLASSIFIER:
            part, _, rest = name.removeprefix("bbox_head.").partition(".")
            result[f"bbox_head.{OLD_FCOS[part]}.{rest}" if part in OLD_FCOS else name] = tensor
    return result


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of torchvision's RetinaNet or FCOS."""
    return f"{TORCHVISION_LOGITS}.weight" in state


def is_own(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of a detdistill detector."""
    return any(name.startswith(("pyramid.fpn.", "backbone.network.")) for name in state)


def other_detector(state: Mapping[str, Tensor]) -> str | None:
    """What the weights are of, if they are of a detector that is known and not supported."""
    return next((what for key in state for prefix, what in OTHER_DETECTORS.items() if key.startswith(prefix)), None)


def likely_head(state: Mapping[str, Tensor]) -> MmdetHeadName | None:
    """The kind of detector that the predictors' names suggest; other detectors may use the same names."""
    if "bbox_head.reg_conf.0.weight" in state:
        return "gflv2"
    return next((head for head, name in CLASS_PREDICTORS.items() if f"bbox_head.{name}.weight" in state), None)


def mmdet_name(name: str, head: MmdetHeadName, norm: str, laterals: int) -> str:
    """The name of a parameter or buffer in mmdetection.

    Args:
        name: in a `DenseDetector`.
        head: the kind of detector.
        norm: how the head's normalisations are called, `gn` or `bn`.
        laterals: backbone levels that the pyramid takes; its extra levels are counted on from there.
    """
    part, _, rest = name.partition(".")
    if part == "backbone":
        rest = rest.replace(".conv2.sampling.", ".conv2.conv_offset.").replace(".conv2.conv.", ".conv2.")
        return "backbone." + rest.removeprefix("network.")
    if part == "pyramid":
        rest = re.sub(r"^fpn\.inner_blocks\.(\d+)\.0\.", r"lateral_convs.\1.conv.", rest)
        rest = re.sub(r"^fpn\.layer_blocks\.(\d+)\.0\.", r"fpn_convs.\1.conv.", rest)
        extra = re.compile(r"^fpn\.extra_blocks\.convs\.(\d+)\.")
        return "neck." + extra.sub(lambda match: f"fpn_convs.{laterals + int(match[1])}.conv.", rest)
    modules = {
        "class_tower": "cls_convs",
        "box_tower": "reg_convs",
        "class_predictor": CLASS_PREDICTORS[head],
        "box_predictor": BOX_PREDICTORS[head],
        **HEAD_MODULES[head],
    }
    ours = next((module for module in modules if rest.startswith(f"{module}.")), "")
    rest = modules.get(ours, "") + rest.removeprefix(ours)
    rest = rest.replace(".norm.", f".{norm}.").replace(".conv.sampling.", ".conv.conv_offset.")
    return "bbox_head." + rest.replace(".conv.conv.", ".conv.")
