"""Non-maximum suppression of a batch, image by image, as one operator that PyTorch and ONNX have.

torchvision's suppresses one list of boxes; a batch in one list takes time quadratic in the number of images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

MOST_BOXES = 2**31 - 1
"""Boxes of an image that ONNX may keep: all."""


@torch.library.custom_op("detdistill::kept_by_nms", mutates_args=())
def kept_by_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Choose boxes by greedy suppression within each image.

    Args:
        boxes: `(N, K, 4)` x1 y1 x2 y2, float32.
        scores: `(N, K)` float32; boxes with a negative score take no part.
        iou_threshold: Overlap above which the lower-scored of two boxes is suppressed.

    Returns:
        `(N, K)` float32, 1 for boxes that are kept, else 0.
    """
    kept = torch.zeros_like(scores)
    for image in range(len(scores)):
        scored = (scores[image] >= 0).nonzero().squeeze(1)
        kept[image, scored[nms(boxes[image, scored], scores[image, scored], iou_threshold)]] = 1
    return kept


@kept_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:  # noqa: ARG001 (the operator's signature)
    return torch.empty_like(scores)


def onnx_translations() -> dict[Any, Any]:
    """Return how `torch.onnx.export` writes the operator."""
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

    return {torch.ops.detdistill.kept_by_nms.default: written}
