"""Features of each proposal: which level of the pyramid it is read from, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import roi_align

from detdistill.core.boxes import box_area

CELLS_OF_FINEST = 14
"""A box of so many cells a side is the largest, but for a factor below 2, that is read from the finest level: 56 px at
stride 4 (Lin et al., Feature Pyramid Networks, CVPR 2017, section 4.2: 224 px at stride 16)."""
_ROUNDING = 1e-6
"""Keeps a box whose side is a power of two from being rounded to the finer level."""


@dataclass(frozen=True)
class RegionFeatures:
    """RoIAlign (He et al., Mask R-CNN, ICCV 2017, section 3) over the levels of a pyramid.

    Attributes:
        strides: of the levels that proposals are read from, fine to coarse, in pixels.
        size: cells along each side of the result.
        aligned: pixels' centres lie in the middle of cells (mmdetection, detectron2); torchvision's models shift them
            by half a cell, and take proposals of less than one cell for one cell.
        points: sampling points along each side of a cell; 0 for one for each pixel of the map, rounded up.
    """

    strides: tuple[int, ...]
    size: int = 7
    aligned: bool = True
    points: int = 0

    def levels(self, boxes: Tensor) -> Tensor:
        """`(K,)` int64, the level that each box `(K, 4)` is read from: ⌊log2(√area / (14 strides of the finest))⌋."""
        finest = CELLS_OF_FINEST * self.strides[0]
        side = box_area(boxes).clamp(min=0).sqrt()
        level = torch.log2(side / finest + _ROUNDING).floor()
        return level.clamp(0, len(self.strides) - 1).long()

    def __call__(self, maps: Sequence[Tensor], boxes: Tensor, image: Tensor) -> Tensor:
        """Features `(K, Q, size, size)` of boxes.

        Args:
            maps: L x `(N, Q, H, W)`; further levels are not read.
            boxes: `(K, 4)` in pixels; no gradient flows into them.
            image: `(K,)` the image of each.
        """
        boxes = boxes.detach().to(maps[0].dtype)
        rois = torch.cat((image[:, None].to(boxes.dtype), boxes), dim=1)
        level = self.levels(boxes)
        result = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], self.size, self.size)
        if torch.compiler.is_compiling():  # an exporter cannot follow how many boxes a level has: each reads all
            for number, (features, stride) in enumerate(zip(maps, self.strides, strict=False)):
                read = roi_align(features, rois, self.size, 1 / stride, self.points or -1, self.aligned)
                result = torch.where((level == number)[:, None, None, None], read, result)
            return result
        for number, (features, stride) in enumerate(zip(maps, self.strides, strict=False)):
            own = (level == number).nonzero().squeeze(1)
            read = roi_align(features, rois[own], self.size, 1 / stride, self.points or -1, self.aligned)
            result = result.index_copy(0, own, read.to(result.dtype))
        return result
