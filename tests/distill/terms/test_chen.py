from __future__ import annotations

import math

import pytest
import torch

from detdistill.core.structures import Assignment
from detdistill.distill.terms.chen import Chen
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects, output


def test_by_hand() -> None:
    """Of four candidates one is positive. Its object is its prior, so the goal is 0 in deltas."""
    of = grid((2, 2), anchors=[[0, 0, 8, 8]])
    logits, deltas = torch.zeros(1, 4, 1), torch.zeros(1, 4, 4)
    own = output(
        of, [torch.zeros(1, 2, 2, 2)], logits + torch.tensor(0.2).logit(), deltas + torch.tensor([0.3, 0, 0, 0])
    )
    other = output(of, [torch.ones(1, 2, 2, 2)], logits, deltas + torch.tensor([0, 0.1, 0, 0]))
    targets = objects([[8, 0, 16, 8]], side=16)
    assignment = Assignment(torch.tensor([[-1, 0, -1, -1]]))
    parts = bound(Chen(adapter="auto"), own, other)(View(own, other, assignment, targets))
    assert parts["classification"].item() == pytest.approx(0.972077, abs=1e-6)
    assert parts["regression"].item() == pytest.approx(0.5 * 0.09, abs=1e-6)
    assert parts["hint"].item() == pytest.approx(0.5 * 1)

    parts = bound(Chen(adapter="auto"), other, own)(View(other, own, assignment, targets))
    assert parts["regression"].item() == 0, "a student that is better than its teacher is left alone"
    parts = bound(Chen(adapter="auto", margin=0.081), other, own)(View(other, own, assignment, targets))
    assert parts["regression"].item() == pytest.approx(0.5 * 0.01, abs=1e-6)


def test_boxes_are_compared_as_deltas() -> None:
    """A box twice as wide is ln 2 away."""
    of = grid((2, 2), anchors=[[0, 0, 8, 8]])
    logits, features = torch.zeros(1, 4, 1), [torch.zeros(1, 2, 2, 2)]
    own = output(of, features, logits)
    assignment, targets = Assignment(torch.tensor([[0, -1, -1, -1]])), objects([[-4, 0, 12, 8]], side=16)
    exact = output(of, features, logits, torch.tensor([0, 0, math.log(2), 0]).expand(1, 4, 4))
    parts = bound(Chen(adapter="auto", regression_weight=1), own, exact)(View(own, exact, assignment, targets))
    assert parts["regression"].item() == pytest.approx(math.log(2) ** 2, rel=1e-5)


def test_the_adapter_is_there_although_channels_agree() -> None:
    own = output(grid((2, 2)), [torch.zeros(1, 2, 2, 2)], torch.zeros(1, 4, 1))
    assert sum(parameter.numel() for parameter in bound(Chen(), own, own).parameters()) == 2 * 2 + 2
