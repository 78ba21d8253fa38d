"""Which order of an object's candidates is nearer the truth: by the teacher's own scores, or by its opinions.

The truth is the IoU of the student's boxes with their object; an order agrees with it by Kendall's tau. By its own
scores a teacher ranks the boxes that it predicts at the same cells. By opinion it ranks the student's boxes by their
overlap with its detections, see `detdistill.teachers.opinions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from detdistill.analysis.pairing import Candidates, Compared
from detdistill.analysis.ranks import agreement, padded
from detdistill.analysis.tally import Estimate, Group, MeanOverImages, Tally

LEAST_OBJECTS = 30
"""Objects that both sources order, below which nothing is said of them."""
NOTICEABLE = 0.05
"""Least difference of two mean taus that is worth naming, however certain it is."""

Order = Literal["student", "grid", "opinion"]
"""By the student's scores, the teacher's scores at the same cells, or the teacher's opinions of the student's boxes."""
ORDERS: tuple[Order, ...] = ("student", "grid", "opinion")
ORDER_MEASURES = (*ORDERS, "without_opinion")

Fit = Literal["grid", "opinion", "either", "neither", "unknown"]
"""Which of a teacher's two orders fits a student."""


@dataclass
class RankSources:
    """How well each order of the candidates agrees with the true IoU of the student's boxes, over objects.

    Attributes:
        groups: mean tau of each order, and the share of objects `without_opinion`, by group of objects.
        taus: mean tau of each order.
        difference: mean tau by opinion less that by the teacher's own scores, over objects that have both.
        has_grid: the teacher has scores on the student's cells.
    """

    groups: Tally = field(default_factory=Tally)
    taus: dict[Order, MeanOverImages] = field(default_factory=lambda: {order: MeanOverImages() for order in ORDERS})
    difference: MeanOverImages = field(default_factory=MeanOverImages)
    has_grid: bool = False

    def add(self, groups: Mapping[Group, Tensor], image: Tensor, compared: Compared) -> None:
        """Adds the objects of a batch that have candidates and a class that the teacher knows.

        Args:
            groups: `(G,)` bool by group: which objects belong to it.
            image: `(G,)` int64, the image of each.
            compared: what both detectors made of the batch.
        """
        objects = len(image)
        found = compared.opinion.candidates
        taus: dict[Order, Tensor] = {
            "student": tau_with_iou(found.own, found, objects),
            "grid": torch.full((objects,), torch.nan, device=image.device),
            "opinion": tau_with_iou(found.other, found, objects),
        }
        if compared.dense is not None:
            self.has_grid = True
            cells = compared.dense.candidates
            taus["grid"] = tau_with_iou(cells.other, cells, objects)
        listed = torch.bincount(found.objects, minlength=objects) > 0
        values: dict[str, Tensor] = {"without_opinion": (~compared.has_opinion).float()}
        values.update((str(order), tau) for order, tau in taus.items())
        self.groups.add({name: chosen & listed for name, chosen in groups.items()}, values)
        for order, tau in taus.items():
            self.taus[order].add(tau, image)
        self.difference.add(taus["opinion"] - taus["grid"], image)

    @property
    def fit(self) -> Fit:
        """The order that fits; see `fitting`."""
        grid, opinion = (self.taus[order].estimate() for order in ("grid", "opinion"))
        return fitting(grid, opinion, self.difference.estimate()) if self.has_grid else fitting(None, opinion, opinion)


def tau_with_iou(scores: Tensor, found: Candidates, objects: int) -> Tensor:
    """`(G,)` Kendall's tau-b of an order of each object's candidates and the true IoU of the student's boxes.

    Args:
        scores: `(K,)` what the candidates are ordered by.
        found: the candidates.
        objects: G.

    Returns:
        NaN for objects with fewer than two candidates, or where all are equal.
    """
    lists, mask = padded(scores, found.objects, objects)
    overlaps, _ = padded(found.own_iou, found.objects, objects)
    return agreement(lists, overlaps, mask).tau


def fitting(grid: Estimate | None, opinion: Estimate, difference: Estimate) -> Fit:
    """Return which order of a teacher's fits a student.

    An order is better than chance if the whole 95 % interval of its mean tau is above 0. Of two orders, one is better
    if the interval of their difference excludes 0 and the difference is at least 0.05.

    Args:
        grid: tau by the teacher's own scores; None if it has none on the student's cells.
        opinion: tau by its opinions.
        difference: `opinion` less `grid`, over objects that have both; `opinion` again without a grid.

    Returns:
        `either` if the two do not differ noticeably and at least one is better than chance; `unknown` if fewer than 30
        objects, or those of a single image, were ordered.
    """
    if difference.objects < LEAST_OBJECTS or difference.low is None:
        return "unknown"
    if not any(_is_positive(each) for each in (grid, opinion)):
        return "neither"
    if grid is None:
        return "opinion"
    assert difference.mean is not None
    assert difference.high is not None
    if difference.mean >= NOTICEABLE and difference.low > 0 and _is_positive(opinion):
        return "opinion"
    if difference.mean <= -NOTICEABLE and difference.high < 0 and _is_positive(grid):
        return "grid"
    return "either"


def _is_positive(tau: Estimate | None) -> bool:
    return tau is not None and tau.low is not None and tau.low > 0
