"""How operators that `torch.onnx.export` does not know are written in ONNX."""

from __future__ import annotations

from typing import Any

import torch

from detdistill.detectors import suppression as _registered  # noqa: F401 (registers the operator)

MOST_BOXES = 2**31 - 1
"""Boxes of an image that ONNX may keep: all."""
INT64 = 7
"""ONNX's number of the type."""


def onnx_translations() -> dict[Any, Any]:
    """Return how `torch.onnx.export` writes the operators that it does not know."""
    from onnxscript import opset20

    op: Any = opset20  # its types know no values of a trace

    def written(boxes: Any, scores: Any, iou_threshold: float) -> Any:
        most, least = op.Constant(value_int=MOST_BOXES), op.Constant(value_float=-0.5)
        overlap = op.Constant(value_float=iou_threshold)
        classes = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
        chosen = op.NonMaxSuppression(boxes, classes, most, overlap, least)  # image, class, box
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Expand(op.Constant(value_float=1.0), op.Shape(chosen, start=0, end=1))
        none = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
        return op.ScatterND(none, places, ones)

    def aligned(
        features: Any,
        rois: Any,
        spatial_scale: float,
        pooled_height: int,
        pooled_width: int,
        sampling_ratio: int,
        aligned: bool,
    ) -> Any:
        first = op.Constant(value_ints=[0])
        image = op.Cast(op.Squeeze(op.Gather(rois, first, axis=1), op.Constant(value_ints=[1])), to=INT64)
        corners = op.Gather(rois, op.Constant(value_ints=[1, 2, 3, 4]), axis=1)
        return op.RoiAlign(
            features,
            corners,
            image,
            mode="avg",
            output_height=pooled_height,
            output_width=pooled_width,
            sampling_ratio=max(sampling_ratio, 0),
            spatial_scale=spatial_scale,
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        )

    return {
        torch.ops.detdistill.kept_by_nms.default: written,
        torch.ops.torchvision.roi_align.default: aligned,
    }
