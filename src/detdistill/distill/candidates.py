"""Which candidates and cells belong to the objects of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.ignoring import ignore_background
from detdistill.detectors.postprocess import rank_within

CandidateLists = tuple[Tensor, Tensor]
"""Object and prior of each entry of candidate lists, each `(K,)` int64. Several objects may list the same candidate."""


@torch.no_grad()
def positives_and_best(
    grid: Grid,
    assignment: Assignment,
    targets: Targets,
    scores: Sequence[Callable[[Tensor, Tensor], Tensor]],
    k: int,
    among: Tensor,
) -> CandidateLists:
    """For each object its positives, and by each of several scores the best candidates with their centre in its box.

    Candidates in ignored boxes are not among the best.

    Time and memory grow with G x P, one byte each: less than class predictions, unless an image has more objects than
    there are classes.

    Args:
        grid: of the candidates.
        assignment: of the candidates.
        targets: the objects.
        scores: each gives the scores `(K,)` of candidates by object and prior, each `(K,)`.
        k: how many are taken by each score; all, where fewer centres lie in the box.
        among: `(G,)` bool: the objects that get a list.

    Returns:
        No candidate stands twice in one list; in order of object, then prior.
    """
    inside = _centers_inside(grid, targets) & among[:, None]
    if len(targets.ignored):
        background = Assignment(torch.full_like(assignment.matched, BACKGROUND))
        ignored = ignore_background(background, Candidates(grid), targets).matched == IGNORED
        inside &= ~ignored[targets.image]
    objects, priors = inside.nonzero(as_tuple=True)
    listed = torch.zeros(len(targets.boxes), grid.num_priors, dtype=torch.bool, device=targets.boxes.device)
    listed[assignment.positive_targets, assignment.positive[1]] = True
    for score in scores:
        order, rank = rank_within(objects, score(objects, priors))
        best = order[rank < k]
        listed[objects[best], priors[best]] = True
    objects, priors = (listed & among[:, None]).nonzero(as_tuple=True)
    return objects, priors


def _centers_inside(grid: Grid, targets: Targets) -> Tensor:
    """`(G, P)` bool: the priors whose centre lies in an object's box."""
    x, y = grid.centers.unbind(dim=1)
    left, top, right, bottom = targets.boxes[:, :, None].unbind(dim=1)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def taught_positives(assignment: Assignment, targets: Targets) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The positives without those of objects that the teacher has no class for, and therefore no box either.

    Args:
        assignment: of the student's candidates.
        targets: a label is `BACKGROUND` where the teacher has no such class.

    Returns:
        Image and prior of the K candidates, each `(K,)`, and the box `(K, 4)` of each one's object, in pixels.
    """
    (image, prior), objects = assignment.positive, assignment.positive_targets
    known = targets.labels[objects] >= 0
    return (image[known], prior[known]), targets.boxes[objects[known]]


def positive_cells(grid: Grid, assignment: Assignment) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells at which a candidate is positive."""
    positive = grid.unflatten((assignment.matched >= 0)[..., None])
    return tuple(level.any(dim=1) for level in positive)


def object_cells(grid: Grid, targets: Targets) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells whose centre lies in an object's box."""
    return cells_inside(grid, targets.boxes, targets.image, targets.num_images)


def cells_inside(grid: Grid, boxes: Tensor, image: Tensor, images: int) -> tuple[Tensor, ...]:
    """L x `(N, H, W)` bool: the cells whose centre lies in one of the boxes `(K, 4)` of their image, `image` `(K,)`."""
    left, top, right, bottom = boxes[:, :, None].unbind(dim=1)
    maps = []
    for (height, width), (step_y, step_x) in zip(grid.sizes, grid.strides, strict=True):
        y = (torch.arange(height, device=left.device) + 0.5) * step_y
        x = (torch.arange(width, device=left.device) + 0.5) * step_x
        rows, columns = (top <= y) & (y < bottom), (left <= x) & (x < right)  # (K, H), (K, W)
        inside = (rows[:, :, None] & columns[:, None, :]).to(torch.int32)
        counts = inside.new_zeros(images, height, width).index_add_(0, image, inside)
        maps.append(counts > 0)
    return tuple(maps)
