from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detdistill.core.structures import Assignment
from detdistill.distill.terms.mimic import Mimic
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects, output

NOWHERE = Assignment(torch.full((2, 16), -1))


def flat(*images: tuple[float, float]) -> Tensor:
    """Maps `(N, 2, 4, 4)` of the same two channels in all cells of an image."""
    return torch.tensor(images)[:, :, None, None].expand(-1, -1, 4, 4)


def test_by_hand() -> None:
    """Two regions: u = [[1, 2], [3, 0]], v = 0."""
    of, logits = grid((4, 4)), torch.zeros(2, 16, 1)
    own, other = output(of, [flat((0.0, 0.0), (0.0, 0.0))], logits), output(of, [flat((1.0, 2.0), (3.0, 0.0))], logits)
    term = bound(Mimic(regions=1, adapter="auto"), own, other)
    assert term(View(own, other, NOWHERE, objects([], images=2)))["features"].item() == pytest.approx(1.75)


def test_the_students_best_candidates_are_where_it_learns() -> None:
    """The teacher differs on the right only; the student's score decides whether that is seen."""
    of, logits = grid((4, 4), anchors=[[0, 0, 8, 8]]), torch.zeros(1, 16, 1)
    difference = torch.zeros(1, 2, 4, 4)
    difference[..., 3] = 1
    own, other = output(of, [torch.zeros(1, 2, 4, 4)], logits), output(of, [difference], logits)
    for prior, seen in ((0, False), (3, True)):
        surest = logits.clone()
        surest[0, prior] = 4
        own = output(of, own.features.maps, surest)
        term = bound(Mimic(regions=1, adapter="auto"), own, other)
        loss = term(View(own, other, Assignment(NOWHERE.matched[:1]), objects([], side=32)))["features"]
        assert (loss.item() > 0) == seen
