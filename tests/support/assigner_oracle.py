"""The assigners written plainly, image by image and object by object over all priors: what the batched ones must equal.

They see the priors in float64, so that ties between priors are those of the lattice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detdistill.core.boxes import pairwise_iou
from detdistill.core.grid import Grid
from detdistill.core.structures import BACKGROUND, IGNORED, Targets
from detdistill.detectors.dense.assigners import AtssAssigner, FcosAssigner, MaxIouAssigner, Region


def in_float64(grid: Grid) -> Grid:
    return Grid(grid.sizes, grid.strides, tuple(anchors.double() for anchors in grid.base_anchors))


def objects_by_image(targets: Targets) -> list[list[int]]:
    return [(targets.image == image).nonzero().flatten().tolist() for image in range(targets.num_images)]


def max_iou_oracle(assigner: MaxIouAssigner, grid: Grid, targets: Targets) -> Tensor:
    priors, boxes = in_float64(grid).priors, targets.boxes.double()
    matched = torch.full((targets.num_images, grid.num_priors), BACKGROUND)
    taking_part = region_oracle(assigner.region, grid, targets)
    for row, used, items in zip(matched, taking_part, objects_by_image(targets), strict=True):
        highest = torch.zeros(grid.num_priors, dtype=torch.float64)
        owner = torch.zeros(grid.num_priors, dtype=torch.int64)
        for item in items:
            iou = pairwise_iou(boxes[item : item + 1], priors)[0] * used
            owner[iou > highest] = item
            highest = highest.maximum(iou)
        row[highest >= assigner.negative] = IGNORED
        row[highest >= assigner.positive] = owner[highest >= assigner.positive]
        if assigner.match_low_quality:
            for item in reversed(items) if assigner.single_best else items:
                iou = pairwise_iou(boxes[item : item + 1], priors)[0] * used
                if iou.max() > 0 and iou.max() >= assigner.minimum:
                    row[iou.argmax() if assigner.single_best else iou == iou.max()] = item
        row[~used] = IGNORED
    return matched


def region_oracle(region: Region | None, grid: Grid, targets: Targets) -> Tensor:
    """`(N, P)` which priors take part."""
    used = torch.ones(targets.num_images, grid.num_priors, dtype=torch.bool)
    if region is None:
        return used
    priors = in_float64(grid).priors
    origins = torch.cat(
        [
            torch.cartesian_prod(torch.arange(h) * y, torch.arange(w) * x).repeat_interleave(anchors, dim=0)
            for (h, w), (y, x), anchors in zip(grid.sizes, grid.strides, grid.anchors_per_cell, strict=True)
        ]
    )
    for row, (height, width) in zip(used, targets.sizes.tolist(), strict=True):
        low, right = (math.ceil(side / region.multiple) * region.multiple for side in (height, width))
        row &= (origins[:, 0] < low) & (origins[:, 1] < right)
        if region.inside:
            row &= (priors[:, :2] >= 0).all(dim=1) & (priors[:, 2] < width) & (priors[:, 3] < height)
    return used


def atss_oracle(assigner: AtssAssigner, grid: Grid, targets: Targets) -> Tensor:
    exact, boxes = in_float64(grid), targets.boxes.double()
    matched = torch.full((targets.num_images, grid.num_priors), BACKGROUND)
    for row, items in zip(matched, objects_by_image(targets), strict=True):
        highest = torch.full((grid.num_priors,), -math.inf, dtype=torch.float64)
        for item in items:
            x1, y1, x2, y2 = boxes[item].tolist()
            center = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2], dtype=torch.float64)
            distance = (exact.centers - center).square().sum(dim=1)
            candidates, start = [], 0
            for length in grid.level_lengths:
                nearest = distance[start : start + length].sort(stable=True).indices[: assigner.topk]
                candidates.append(nearest + start)
                start += length
            chosen = torch.cat(candidates)
            iou = pairwise_iou(boxes[item : item + 1], exact.priors[chosen])[0]
            threshold = iou.mean() + (iou.std() if len(iou) > 1 else 0)
            for prior, overlap in zip(chosen.tolist(), iou.tolist(), strict=True):
                x, y = exact.centers[prior].tolist()
                inside = min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
                if inside and overlap >= threshold and overlap > highest[prior]:
                    row[prior], highest[prior] = item, overlap
    return matched


def fcos_oracle(assigner: FcosAssigner, grid: Grid, targets: Targets) -> Tensor:
    exact, boxes = in_float64(grid), targets.boxes.double()
    matched = torch.full((targets.num_images, grid.num_priors), BACKGROUND)
    smallest, largest = per_prior(assigner.ranges, grid).unbind(-1)
    for row, items in zip(matched, objects_by_image(targets), strict=True):
        area = torch.full((grid.num_priors,), math.inf, dtype=torch.float64)
        for item in items:
            box = boxes[item]
            distances = torch.cat((exact.centers - box[:2], box[2:] - exact.centers), dim=1)
            farthest = distances.amax(dim=1)
            learns = (distances.amin(dim=1) > 0) & (farthest >= smallest) & (farthest <= largest)
            if assigner.center_radius is not None:
                sides = exact.priors[:, 2:] - exact.priors[:, :2]
                away = (exact.centers - (box[:2] + box[2:]) / 2).abs()
                learns &= (away < assigner.center_radius * sides).all(dim=1)
            learns &= (box[2:] - box[:2]).prod() < area
            row[learns] = item
            area[learns] = (box[2:] - box[:2]).prod()
    return matched


def per_prior(values: Sequence[Sequence[float]], grid: Grid) -> Tensor:
    """Repeats each level's values for its priors."""
    return torch.tensor(values, dtype=torch.float64).repeat_interleave(torch.tensor(grid.level_lengths), dim=0)
