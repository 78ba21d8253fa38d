"""Background inside ignored boxes: which candidates learn nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_intersection, box_area
from detdistill.core.output import Candidates
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets

LEAST_SHARE = 0.5
"""The share of a candidate's own area that must lie in one ignored box."""

CHUNK = 16
"""How many ignored boxes are compared with all candidates of an image at once; it bounds the memory."""


@torch.no_grad()
def ignore_background(assignment: Assignment, candidates: Candidates, targets: Targets) -> Assignment:
    """Make `IGNORED` of every `BACKGROUND` candidate at least half of which lies in one ignored box of its image.

    The measure is COCO's for crowd regions: the intersection over the candidate's own area. Positives stay positive.

    Args:
        assignment: which object each candidate is positive for.
        candidates: the priors of a grid, or each image's own boxes.
        targets: with the ignored boxes.
    """
    if not len(targets.ignored):
        return assignment
    matched, boxes = assignment.matched.clone(), candidates.boxes
    for image in sorted(set(targets.ignored_image.tolist())):
        own = boxes if boxes.dim() == 2 else boxes[image]
        inside = mostly_inside(own, targets.ignored[targets.ignored_image == image])
        matched[image][inside & (matched[image] == BACKGROUND)] = IGNORED
    return Assignment(matched)


def mostly_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """`(P,)` bool: at least half the area of each box `(P, 4)` lies in one of the regions `(I, 4)`.

    A box without area lies in none.
    """
    boxes, regions = boxes.double(), regions.double()
    area = box_area(boxes)
    found = torch.zeros_like(area, dtype=torch.bool)
    for part in torch.split(regions, CHUNK):
        shared = aligned_intersection(boxes, part[:, None])
        found |= ((shared >= LEAST_SHARE * area) & (shared > 0)).any(dim=0)
    return found
