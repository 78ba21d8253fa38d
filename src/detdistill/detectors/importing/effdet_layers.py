"""What the weights of an effdet checkpoint tell of its layers."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import timm
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.choices import EfficientDetPreset, Fusion
from detdistill.detectors.dense.efficientdet_scaling import SCALINGS

FIRST_NODE = "fpn.cell.0.fnode."
ANCHORS = 9
STRIDES = (8, 16, 32)
COUNTER = "num_batches_tracked"
INVERTED_BLOCK = "backbone.blocks.1.0.conv_pwl.weight"
"""A layer of every EfficientNet, but not of every network whose names start in the same way."""


@dataclass(frozen=True)
class EffdetLayers:
    """The layers behind a state dict.

    Attributes:
        channels: of the pyramid.
        repeats: cells of the pyramid.
        fusion: of its maps.
        extra_levels: beyond the backbone's.
        depth: convolutions of the head's towers.
        bias: convolutions before a batch norm have a bias, as TensorFlow's.
        num_classes: C.
        level_first: batch norms of the head are listed level by level, not convolution by convolution.
    """

    channels: int
    repeats: int
    fusion: Fusion
    extra_levels: int
    depth: int
    bias: bool
    num_classes: int
    level_first: bool


def is_effdet(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of effdet's EfficientDet."""
    return any(name.startswith(FIRST_NODE) for name in state)


def read_effdet_layers(state: Mapping[str, Tensor]) -> EffdetLayers:
    """Reads levels, widths, depths and classes off names and shapes.

    Raises:
        DetdistillError: a layer that every such detector has is missing or misshapen, or it is of another kind.
    """
    if "class_net.conv_rep.0.conv.weight" in state:
        raise DetdistillError("its head has plain convolutions; expected separable ones (effdet's separable_conv)")
    rows, boxes = (_rows(state, f"{part}.predict.conv_pw.weight") for part in ("class_net", "box_net"))
    if boxes != 4 * ANCHORS or rows % ANCHORS:
        raise DetdistillError(
            f"its predictors have {rows} channels for classes and {boxes} for boxes; expected a multiple of {ANCHORS} "
            f"and {4 * ANCHORS}, of {ANCHORS} anchors per cell (effdet's num_scales 3, and 3 aspect_ratios)"
        )
    nodes = len(_numbers(state, FIRST_NODE))
    levels = nodes // 2 + 1
    if nodes % 2 or levels <= len(STRIDES):
        raise DetdistillError(
            f"its pyramid has {nodes} nodes per cell; expected 8 of a BiFPN from P3 to P7, or 10 to P8 (effdet's "
            "fpn_name bifpn_fa or bifpn_sum)"
        )
    return EffdetLayers(
        channels=_rows(state, "class_net.predict.conv_dw.weight"),
        repeats=len(_numbers(state, "fpn.cell.")),
        fusion="fast" if f"{FIRST_NODE}0.combine.edge_weights" in state else "sum",
        extra_levels=levels - len(STRIDES),
        depth=len(_numbers(state, "class_net.conv_rep.")),
        bias="fpn.cell.0.fnode.0.after_combine.conv.conv_pw.bias" in state,
        num_classes=rows // ANCHORS,
        level_first="class_net.bn_rep.0.0.weight" in state,
    )


def known_backbone(state: Mapping[str, Tensor], preset: EfficientDetPreset | None, *, bias: bool) -> str | None:
    """Return the timm name of the EfficientNet whose tensors a checkpoint has; None if it is none of the presets.

    Args:
        state: effdet's names.
        preset: whose backbone alone comes into question; None for those of all presets.
        bias: of the pyramid: with it the backbone is of TensorFlow's padding (`tf_`), which has the same tensors.
    """
    if INVERTED_BLOCK not in state:
        return None
    own = {
        name.removeprefix("backbone."): tuple(tensor.shape)
        for name, tensor in state.items()
        if name.startswith("backbone.") and not name.endswith(COUNTER)
    }
    scalings = SCALINGS.values() if preset is None else [SCALINGS[preset]]
    plain = dict.fromkeys(scaling.backbone.removeprefix("tf_") for scaling in scalings)
    names = [f"tf_{name}" if bias else name for name in plain]
    return next((name for name in names if _shapes(name) == own), None)


@functools.cache
def _shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    if not timm.is_model(backbone):
        return {}
    with torch.device("meta"):
        network = timm.create_model(backbone, features_only=True, out_indices=(2, 3, 4))
    return {name: tuple(each.shape) for name, each in network.state_dict().items() if not name.endswith(COUNTER)}


def _rows(state: Mapping[str, Tensor], key: str) -> int:
    if key not in state:
        raise DetdistillError(f"{key} is missing")
    if state[key].ndim != 4 or not state[key].numel():
        raise DetdistillError(f"{key} has the shape {tuple(state[key].shape)}; expected 4 dimensions")
    return state[key].shape[0]


def _numbers(state: Mapping[str, Tensor], prefix: str) -> set[str]:
    """The numbers of the modules that start with `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return {match[1] for key in state if (match := pattern.match(key))}
