"""Faster, Mask and Cascade R-CNN that mmdetection 2.x and 3.x trained, from their weights and their configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.core.settings import from_values, to_values
from detdistill.detectors.importing.misfits import refuse_misfits
from detdistill.detectors.importing.mmdet_layers import BACKBONE_STRIDES, count, read_backbone_layers, shape
from detdistill.detectors.importing.mmdet_two_stage_config import TwoStageReading
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.two_stage.two_stage_architecture import TwoStageArchitecture
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector

PROPOSAL_MODULES = {
    "convs.0": "rpn_conv",
    "object_predictor": "rpn_cls",
    "box_predictor": "rpn_reg",
}
REGION_MODULES = {"class_predictor": "fc_cls", "box_predictor": "fc_reg"}


def is_two_stage(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of a two-stage detector of mmdetection 2.x or 3.x."""
    return any(key.startswith("roi_head.bbox_head.") for key in state)


def two_stage_architecture(state: Mapping[str, Tensor], reading: TwoStageReading) -> tuple[TwoStageArchitecture, int]:
    """The layers behind weights and configuration, and the number of classes.

    Args:
        state: mmdetection's keys without prefixes.
        reading: the configuration.

    Raises:
        DetdistillError: a layer is missing or misshapen, or a value that cannot be.
    """
    backbone, channels, bottleneck = read_backbone_layers(state)
    laterals = count(state, "neck.lateral_convs.")
    outputs = count(state, "neck.fpn_convs.")
    if not laterals or outputs != laterals:
        raise DetdistillError(
            f"its pyramid has {laterals} lateral and {outputs} output convolutions; a two-stage detector's has as many "
            "of both, and a pooled level"
        )
    width = shape(state, "neck.fpn_convs.0.conv.weight", 4)[0]
    strides = BACKBONE_STRIDES[-laterals:]
    head = region_prefix(state)
    classes = shape(state, f"{head}fc_cls.weight", 2)[0] - 1
    sides = shape(state, f"{head}fc_reg.weight", 2)[0]
    layers = count(state, f"{head}shared_fcs.")
    linear = shape(state, f"{head}shared_fcs.0.weight", 2)[0] if layers else 1024
    several = count(state, "rpn_head.rpn_conv.")
    levels = reading.common.strides or ()
    values: dict[str, Any] = {
        "kind": reading.kind,
        "backbone": backbone,
        "backbone_style": reading.common.values.get("backbone_style", "pytorch") if bottleneck else "pytorch",
        "strides": list(strides),
        "pyramid": {"channels": width, "pooled_levels": max(len(levels) - laterals, 0)},
        "proposals": {**reading.proposals, "depth": several or 1},
        "regions": {
            **reading.regions,
            "layers": layers,
            "channels": linear,
            "convolutions": count(state, f"{head}shared_convs."),
            "class_boxes": sides != 4,
        },
    }
    if channels is not None:
        values["backbone_channels"] = list(channels)
    if reading.masks:
        masks = mask_prefix(state)
        values["masks"] = {
            **reading.masks,
            "convolutions": count(state, f"{masks}convs."),
            "channels": shape(state, f"{masks}upsample.weight", 4)[1],
            "class_masks": shape(state, f"{masks}conv_logits.weight", 4)[0] == classes,
        }
    return from_values(TwoStageArchitecture, values), classes


def region_prefix(state: Mapping[str, Tensor]) -> str:
    """Where the first region head's weights are."""
    return "roi_head.bbox_head.0." if "roi_head.bbox_head.0.fc_cls.weight" in state else "roi_head.bbox_head."


def mask_prefix(state: Mapping[str, Tensor]) -> str:
    """Where the first mask branch's weights are."""
    return "roi_head.mask_head.0." if "roi_head.mask_head.0.upsample.weight" in state else "roi_head.mask_head."


def load_two_stage(
    architecture: TwoStageArchitecture,
    classes: tuple[str, ...],
    normalization: Normalization,
    reading: TwoStageReading,
    state: Mapping[str, Tensor],
) -> TwoStageDetector:
    """The detector with these weights, in evaluation mode.

    Raises:
        DetdistillError: weights are missing, left over, or of another shape; all are listed.
    """
    spec = InputSpec(normalization)
    # On the meta device nothing is allocated: shapes that do not fit cannot ask for more memory than the file has.
    with torch.device("meta"):
        wanted = TwoStageDetector(architecture, classes, input=spec).state_dict()
    several = bool(count(state, "rpn_head.rpn_conv."))
    cascaded = region_prefix(state).endswith("0.")
    names = {
        name: mmdet_two_stage_name(name, several_convs=several, cascaded=cascaded)
        for name in wanted
        if not name.endswith("num_batches_tracked")
    }
    refuse_misfits(names, wanted, state)
    with torch.random.fork_rng(devices=[]):
        detector = TwoStageDetector(architecture, classes, input=spec)
    detector.load_state_dict({name: state[theirs].float() for name, theirs in names.items()}, strict=False)
    detector.postprocessing = from_values(
        PostProcessing, {**to_values(detector.postprocessing), **reading.postprocessing}
    )
    return detector.eval()


def mmdet_two_stage_name(name: str, *, several_convs: bool, cascaded: bool) -> str:
    """The name of a parameter or buffer in mmdetection.

    Args:
        name: in a `TwoStageDetector`.
        several_convs: the proposal network has more than one convolution.
        cascaded: there are several region heads.
    """
    part, _, rest = name.partition(".")
    if part == "backbone":
        return "backbone." + rest.removeprefix("network.")
    if part == "pyramid":
        rest = re.sub(r"^fpn\.inner_blocks\.(\d+)\.0\.", r"lateral_convs.\1.conv.", rest)
        return "neck." + re.sub(r"^fpn\.layer_blocks\.(\d+)\.0\.", r"fpn_convs.\1.conv.", rest)
    if part == "proposal_head":
        if several_convs:
            rest = re.sub(r"^convs\.(\d+)\.", r"rpn_conv.\1.conv.", rest)
        module, _, kind = rest.rpartition(".")
        return f"rpn_head.{PROPOSAL_MODULES.get(module, module)}.{kind}"
    stage, _, rest = rest.partition(".")
    if part == "mask_heads":
        rest = re.sub(r"^convs\.(\d+)\.", r"convs.\1.conv.", rest).replace("mask_predictor.", "conv_logits.")
        return f"roi_head.mask_head.{stage}.{rest}" if cascaded else f"roi_head.mask_head.{rest}"
    rest = re.sub(r"^layers\.", "shared_fcs.", rest)
    rest = re.sub(r"^convs\.(\d+)\.", r"shared_convs.\1.conv.", rest)
    module, _, kind = rest.rpartition(".")
    head = f"bbox_head.{stage}" if cascaded else "bbox_head"
    return f"roi_head.{head}.{REGION_MODULES.get(module, module)}.{kind}"


def refuse_unsupported(reading: TwoStageReading) -> None:
    """Raises `DetdistillError`, which lists it, if the configuration asks for what our detectors do not have."""
    if reading.common.unsupported:
        raise DetdistillError(f"detdistill's detectors do not have{listed(reading.common.unsupported)}")
