"""Lists of candidates, one for each object. A candidate may stand in the lists of several objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detdistill.detectors.postprocess import rank_within
from detdistill.grid import Grid
from detdistill.structures import Assignment, Targets

Candidates = tuple[Tensor, Tensor]
"""Object and prior of each entry of the lists, each `(K,)` int64."""


@torch.no_grad()
def positives_and_best(
    grid: Grid,
    assignment: Assignment,
    targets: Targets,
    scores: Sequence[Callable[[Tensor, Tensor], Tensor]],
    k: int,
    among: Tensor,
) -> Candidates:
    """For each object its positives, and by each of several scores the best candidates with their centre in its box.

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
    objects, priors = (_centers_inside(grid, targets) & among[:, None]).nonzero(as_tuple=True)
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
