"""Regions of images, and the parts of the pyramid that see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from detdistill.core.boxes import box_area, box_sides, clip_boxes
from detdistill.core.grid import Grid
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Targets
from detdistill.distill.candidates import cells_inside

CELLS_ACROSS = 14
"""Least side of a region, in cells, on the level that sees it: FPN's 224 pixels at stride 16, DeFeat's 56 at 4."""

CANDIDATES = 3000
"""Of an image, the best by score, among which overlaps are suppressed (GID's number)."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes in the images of a batch.

    Attributes:
        boxes: `(K, 4)` in pixels.
        image: `(K,)` int64, ascending.
    """

    boxes: Tensor
    image: Tensor


@torch.no_grad()
def best_regions(
    scores: Tensor,
    boxes: Callable[[tuple[Tensor, Tensor]], Tensor],
    sizes: Tensor,
    *,
    count: int,
    iou_threshold: float,
    smallest_side: float,
) -> Regions:
    """The candidates of the highest scores in each image, without those that overlap a better one.

    Args:
        scores: `(N, P)`.
        boxes: gives the boxes `(K, 4)` of candidates by image and prior, each `(K,)`, as `Output.boxes` does.
        sizes: `(N, 2)` true height and width of each image: boxes are clipped to it.
        count: regions of an image, at most.
        iou_threshold: overlap above which a box is left out.
        smallest_side: in pixels; smaller boxes are left out.
    """
    best, prior = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
    images = torch.arange(len(scores), device=scores.device)
    image = images.repeat_interleave(prior.shape[1])
    candidates = clip_boxes(boxes((image, prior.flatten())), sizes[image]).view(*prior.shape, 4)
    large = (box_sides(candidates) >= smallest_side).all(dim=-1)
    chosen = [
        own[fits][_best_apart(own[fits], score[fits], count, iou_threshold)]
        for own, score, fits in zip(candidates, best, large, strict=True)
    ]
    counts = torch.tensor([len(own) for own in chosen], device=scores.device)
    return Regions(torch.cat(chosen), images.repeat_interleave(counts))


def _best_apart(boxes: Tensor, scores: Tensor, count: int, iou_threshold: float) -> Tensor:
    """The indices of the first `count` boxes, of those sorted best first, that overlap no better one that is kept.

    Which are kept does not depend on worse ones: a few times `count` are looked at first, and nearly always enough.
    """
    looked_at = 4 * count
    while True:
        keep: Tensor = nms(boxes[:looked_at], scores[:looked_at], iou_threshold)
        if len(keep) >= count or looked_at >= len(boxes):
            return keep[:count]
        looked_at *= 4


def region_levels(grid: Grid, boxes: Tensor) -> Tensor:
    """`(K,)` the level that sees each box `(K, 4)`: the coarsest on which √area is 14 cells long, or the finest.

    Lin et al., Feature Pyramid Networks, CVPR 2017, equation 1, for any strides.
    """
    sides = box_area(boxes).clamp(min=0).sqrt()
    least = sides.new_tensor([CELLS_ACROSS * step_x for _, step_x in grid.strides])
    return ((sides[:, None] >= least).sum(dim=1) - 1).clamp(min=0)


def region_features(features: Sequence[Tensor], grid: Grid, regions: Regions, side: int) -> Tensor:
    """`(K, Q, side, side)` features of regions, each from its level (He et al., Mask R-CNN, ICCV 2017: RoIAlign).

    Args:
        features: L x `(N, Q, H, W)`.
        grid: of the maps.
        regions: in images of the batch.
        side: number of bins along both axes, each the mean of 2 x 2 samples.
    """
    levels = region_levels(grid, regions.boxes)
    pooled = []
    for level, (maps, (step_y, step_x)) in enumerate(zip(features, grid.strides, strict=True)):
        chosen = levels == level
        maps = at_least_float32(maps)
        boxes = regions.boxes[chosen] / regions.boxes.new_tensor([step_x, step_y, step_x, step_y])
        rois = torch.cat((regions.image[chosen, None].to(boxes.dtype), boxes), dim=1).to(maps.dtype)
        pooled.append(roi_align(maps, rois, side, sampling_ratio=2, aligned=True))
    return torch.cat(pooled)[levels.argsort(stable=True).argsort()]


def object_windows(grid: Grid, targets: Targets) -> tuple[Tensor, ...]:
    """L x `(G, H, W)` bool: the cells under each object's box, at least one, on the level of its size.

    Guo et al., DeFeat, CVPR 2021, the authors' code: corners in cells are rounded down, the last not included.
    """
    levels = region_levels(grid, targets.boxes)
    left, top, right, bottom = targets.boxes[:, :, None].unbind(dim=1)
    windows = []
    for level, ((height, width), (step_y, step_x)) in enumerate(zip(grid.sizes, grid.strides, strict=True)):
        rows = _between(top / step_y, bottom / step_y, height)
        columns = _between(left / step_x, right / step_x, width)
        windows.append(rows[:, :, None] & columns[:, None, :] & (levels == level)[:, None, None])
    return tuple(windows)


def ignored_cells(grid: Grid, targets: Targets) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells whose centre lies in an ignored box of their image."""
    return cells_inside(grid, targets.ignored, targets.ignored_image, targets.num_images)


def largest_by_image(values: Tensor, targets: Targets) -> Tensor:
    """`(N, H, W)` the largest of the values `(G, H, W)` of an image's objects in each cell; 0 without objects."""
    empty = values.new_zeros(targets.num_images, *values.shape[1:])
    return empty.scatter_reduce(0, targets.image[:, None, None].expand_as(values), values, "amax")


def _between(start: Tensor, end: Tensor, count: int) -> Tensor:
    """`(G, count)` bool: the cells from `start` to `end`, each `(G, 1)` in cells."""
    cell = torch.arange(count, device=start.device)
    first = start.floor().clamp(0, count - 1)
    return (first <= cell) & (cell < end.floor().maximum(first + 1))
