"""A teacher's opinion of any box, from the boxes that it predicts itself.

F_c(b) = max_j p_jc · IoU(b, b_j)^γ over the teacher's boxes j. TOOD's alignment metric (Feng et al., ICCV 2021) has
this form with the ground truth in the teacher's place; the weighting of stored boxes by their scores is that of
Teach-DETR (Huang et al., arXiv 2211.11953).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detdistill.core.boxes import pairwise_iou
from detdistill.core.structures import TeacherBoxes

SHARPNESS = 2.0
"""γ. Of 1 to 4, 2 gave the best AP when opinions replaced a student's scores."""
SURE_FLOOR = 0.05
"""Up to this floor, what a teacher does not predict is taken for background."""
MATCHED_IOU = 0.5
"""IoU from which on a teacher's box is taken for another prediction of the same object."""

_SCORES_AT_ONCE = 2**24
"""Largest number of (box, teacher's box, class) triples that are looked at together: 64 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Opinions:
    """What a teacher thinks of K boxes.

    Attributes:
        scores: `(K, C)` 0 to 1; 0 where no box of the teacher overlaps.
        boxes: `(K, 4)` the teacher's box that the best of these scores comes from, in pixels; NaN where its IoU is
            below 0.5.
    """

    scores: Tensor
    boxes: Tensor


@torch.no_grad()
def opinions(found: Sequence[TeacherBoxes], boxes: Tensor, image: Tensor, sharpness: float = SHARPNESS) -> Opinions:
    """Return a teacher's opinion of boxes in several images.

    Time and memory follow the pairs of boxes that overlap; all pairs are looked at a bounded number at a time.

    Args:
        found: what the teacher predicts in each image, at least one.
        boxes: `(K, 4)` in pixels of the canvas.
        image: `(K,)` the image of each, ascending.
        sharpness: γ, above 0: how much less is thought of a box that lies elsewhere.
    """
    counts = torch.bincount(image, minlength=len(found)).tolist()
    parts = [
        _in_one_image(own, rows, sharpness)
        for own, part in zip(found, torch.split(boxes.detach().float(), counts), strict=True)
        for rows in torch.split(part, max(1, _SCORES_AT_ONCE // max(1, own.probabilities.numel())))
    ]
    return Opinions(torch.cat([part.scores for part in parts]), torch.cat([part.boxes for part in parts]))


def _in_one_image(found: TeacherBoxes, boxes: Tensor, sharpness: float) -> Opinions:
    probabilities = found.probabilities.float()
    scores = boxes.new_zeros(len(boxes), probabilities.shape[1])
    if not len(found) or not len(boxes):
        return Opinions(scores, torch.full_like(boxes, torch.nan))
    overlap = pairwise_iou(boxes, found.boxes.float())
    closeness = overlap if sharpness == 1 else overlap.pow(sharpness)
    sure, label = probabilities.max(dim=1)
    weighted = closeness * sure
    if int((probabilities > 0).sum(dim=1).max()) <= 1:  # of one class a box, no need to look at all classes
        scores.scatter_reduce_(1, label.expand_as(weighted), weighted, "amax")
    else:
        row, theirs = overlap.nonzero(as_tuple=True)
        values = closeness[row, theirs][:, None] * probabilities[theirs]
        scores.scatter_reduce_(0, row[:, None].expand_as(values), values, "amax")
    best = weighted.argmax(dim=1)
    is_matched = overlap.gather(1, best[:, None]) >= MATCHED_IOU
    return Opinions(scores, torch.where(is_matched, found.boxes[best].float(), torch.nan))
