"""Non-maximum suppression of a batch, image by image, as one operator that PyTorch and ONNX have.

torchvision's suppresses one list of boxes; a batch in one list takes time quadratic in the number of images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


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
