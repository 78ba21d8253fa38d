from __future__ import annotations

import pytest
import torch

from detdistill.core.structures import Assignment
from detdistill.distill.terms.binary_classification import BinaryClassification
from detdistill.distill.view import View
from detdistill.losses.box import giou_loss
from support.term_cases import grid, objects, output

OF = grid((1, 2), (1, 1))
TARGETS = objects([[0, 0, 16, 16]])


def test_by_hand() -> None:
    """Teacher .8, student .5 in one class of one candidate; boxes shifted there, and where the answers agree."""
    logits = torch.zeros(1, 3, 2)
    goals = logits.clone()
    goals[0, 0, 0] = torch.tensor(0.8).logit()
    shifted = torch.zeros(1, 3, 4)
    shifted[..., 0] = 0.5
    own, other = output(OF, (), logits, shifted), output(OF, (), goals)
    parts = BinaryClassification()(View(own, other, Assignment(torch.tensor([[0, -1, -1]])), TARGETS))
    assert parts["classification"].item() == pytest.approx(0.207944, abs=1e-6)
    giou = giou_loss(own.predictions.boxes()[0, 0], other.predictions.boxes()[0, 0]).item()
    assert parts["box"].item() == pytest.approx(4 * 0.3 * giou, abs=1e-5)
    two = BinaryClassification()(View(own, other, Assignment(torch.tensor([[0, 0, -1]])), TARGETS))
    assert two["classification"].item() == pytest.approx(parts["classification"].item() / 2)


@pytest.mark.parametrize(
    ("matched", "positive", "every"),
    [([0, -1, -1], 2, 3), ([-1, -1, 0], 1, 3), ([-1, -1, -1], 0, 3), ([0, -2, -1], 1, 2), ([-2, -2, -2], 0, 0)],
)
def test_which_candidates_count(matched: list[int], positive: int, every: int) -> None:
    """All of the levels with positives, or all, but never ignored ones."""
    own, other = output(OF, (), torch.zeros(1, 3, 1)), output(OF, (), torch.full((1, 3, 1), 0.8).logit())
    assignment = Assignment(torch.tensor([matched]))
    for term, count in ((BinaryClassification(), positive), (BinaryClassification(levels="all"), every)):
        loss = term(View(own, other, assignment, TARGETS))["classification"]
        assert loss.item() == pytest.approx(0.207944 * count, abs=1e-5)


def test_the_weights_of_boxes_have_no_gradient() -> None:
    logits = torch.zeros(1, 3, 1, requires_grad=True)
    own = output(OF, (), logits, torch.full((1, 3, 4), 0.5))
    other = output(OF, (), torch.full((1, 3, 1), 0.8).logit())
    box = BinaryClassification()(View(own, other, Assignment(torch.tensor([[0, -1, -1]])), TARGETS))["box"]
    assert box.item() > 0
    assert not box.requires_grad
